//! Format doc: compares the tables of `docs/FORMAT.md` with the structs that they describe.
//!
//! `documented!(RawHeader, [magic, crc, ..])` names all fields of a struct; each must be a row of the table under the
//! heading with the struct's name, with its offset and size, and there is no other row.

const FORMAT: &str = include_str!("../../docs/FORMAT.md");

/// The first three cells of the table below the heading that names `what`: offset, size, field.
pub(crate) fn table(what: &str) -> Vec<(usize, usize, String)> {
    let heading = format!("### `{what}`");
    let (_, section) = FORMAT.split_once(&heading).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = rows.skip(2).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{what}: no number in {line}"));
        (number(cells[1]), number(cells[2]), cells[3].to_owned())
    });
    rows.collect()
}

/// The bytes of the worked example.
pub(crate) fn example() -> Vec<u8> {
    let (_, dump) = FORMAT.split_once("```record\n").expect("there is an example");
    let (dump, _) = dump.split_once("```").expect("it ends");
    let bytes = dump.lines().flat_map(|line| line.split_whitespace().skip(1));
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect()
}

macro_rules! documented {
    ($raw:ty, [$($field:ident),+ $(,)?]) => {{
        fn bytes_of<T, F>(_: impl Fn(&T) -> &F) -> usize {
            size_of::<F>()
        }
        let fields = vec![$((
            std::mem::offset_of!($raw, $field),
            bytes_of(|raw: &$raw| &raw.$field),
            stringify!($field).to_owned(),
        )),+];
        assert_eq!(fields.iter().map(|(_, bytes, _)| bytes).sum::<usize>(), size_of::<$raw>(), "all fields");
        assert_eq!($crate::format_doc::table(stringify!($raw)), fields);
    }};
}
