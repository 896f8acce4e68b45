//! Expand: `${NAME}` and fio's keywords in a value: `$pagesize`, `$mb_memory`, `$ncpus`.
//!
//! A value with a keyword may be an expression, as `size=8*$mb_memory`: whole numbers with `+ - * /` and parentheses,
//! evaluated as `bc` does for fio: a division drops the fraction.

use super::surroundings::Surroundings;

/// Why a value cannot be expanded.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Unexpanded {
    /// This environment variable is not set.
    Variable(String),
    /// The expression is malformed, divides by zero, or is too large.
    Expression,
}

/// The value with everything replaced.
pub(super) fn expand(value: &str, around: &dyn Surroundings) -> Result<String, Unexpanded> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { break };
        text.push_str(before);
        text.push_str(&around.variable(name).ok_or_else(|| Unexpanded::Variable(name.to_owned()))?);
        rest = behind;
    }
    text.push_str(rest);
    let keywords =
        [("$pagesize", around.page_bytes()), ("$mb_memory", around.memory_mib()), ("$ncpus", around.cpus())];
    let mut has_keyword = false;
    for (keyword, number) in keywords {
        if text.contains(keyword) {
            has_keyword = true;
            text = text.replace(keyword, &number.to_string());
        }
    }
    if has_keyword && text.contains(['+', '-', '*', '/']) {
        let number = Expression::new(&text, |number, unit| unit.is_empty().then_some(number)).value();
        return number.map(|number| number.to_string()).ok_or(Unexpanded::Expression);
    }
    Ok(text)
}

/// An expression of whole numbers: sums, products, powers, parentheses.
pub(super) struct Expression<'a, F> {
    rest: &'a str,
    depth: u32,
    /// The value of a number with a unit.
    scale: F,
}

/// Parentheses within each other.
const DEPTH_MAX: u32 = 32;

impl<'a, F: Fn(i128, &str) -> Option<i128>> Expression<'a, F> {
    pub(super) fn new(text: &'a str, scale: F) -> Self {
        Self { rest: text, depth: 0, scale }
    }

    /// Its value; none if it is malformed, divides by zero, or is too large.
    pub(super) fn value(mut self) -> Option<i128> {
        let value = self.sum()?;
        self.rest.trim().is_empty().then_some(value)
    }

    /// Takes one of the characters, if it comes next.
    fn take(&mut self, any: &[char]) -> Option<char> {
        self.rest = self.rest.trim_start();
        let next = self.rest.chars().next().filter(|next| any.contains(next))?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn sum(&mut self) -> Option<i128> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(&['+', '-']) {
            let other = self.product()?;
            value = if operator == '+' { value.checked_add(other)? } else { value.checked_sub(other)? };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<i128> {
        let mut value = self.power()?;
        while let Some(operator) = self.take(&['*', '/', '%']) {
            let other = self.power()?;
            value = match operator {
                '*' => value.checked_mul(other)?,
                '/' => value.checked_div(other)?,
                _ => value.checked_rem(other)?,
            };
        }
        Some(value)
    }

    fn power(&mut self) -> Option<i128> {
        let base = self.atom()?;
        if self.take(&['^']).is_none() {
            return Some(base);
        }
        self.enter()?;
        let exponent = self.power()?;
        self.depth -= 1;
        base.checked_pow(u32::try_from(exponent).ok()?)
    }

    fn atom(&mut self) -> Option<i128> {
        if self.take(&['(']).is_some() {
            self.enter()?;
            let value = self.sum()?;
            self.depth -= 1;
            return self.take(&[')']).map(|_| value);
        }
        if self.take(&['-']).is_some() {
            self.enter()?;
            let value = self.atom()?;
            self.depth -= 1;
            return value.checked_neg();
        }
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        self.rest = rest;
        (self.scale)(number.parse().ok()?, unit)
    }

    fn enter(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::surroundings::Nothing;

    struct Some64;

    impl Surroundings for Some64 {
        fn variable(&self, name: &str) -> Option<String> {
            (name == "SIZE").then(|| "64".to_owned())
        }

        fn include(&self, path: &str) -> std::io::Result<String> {
            Nothing.include(path)
        }

        fn cpus(&self) -> u64 {
            6
        }

        fn memory_mib(&self) -> u64 {
            1000
        }
    }

    #[test]
    fn variables_and_keywords() {
        let expanded = |text| expand(text, &Some64);
        for (text, value) in [
            ("4k", "4k"),
            ("${SIZE}m", "64m"),
            ("a${SIZE}b${SIZE}", "a64b64"),
            ("${SIZE", "${SIZE"),
            ("$ncpus", "6"),
            ("2*$ncpus", "12"),
            ("5*1024*1024*$mb_memory/8", "655360000"),
            ("64*$pagesize", "262144"),
            ("($ncpus+1)*2-3", "11"),
            ("7/2*$ncpus", "18"),
            ("$other", "$other"),
            ("4*4", "4*4"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(value), "{text}");
        }
        assert_eq!(expanded("${NONE}"), Err(Unexpanded::Variable("NONE".to_owned())));
        for text in ["$ncpus/0", "$ncpus*", "*$ncpus", "$ncpus+k", "$ncpus*$ncpus^99", "($ncpus+1"] {
            assert_eq!(expanded(text), Err(Unexpanded::Expression), "{text}");
        }
        let deep = format!("{}$ncpus+1{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(expanded(&deep), Err(Unexpanded::Expression));
    }
}
