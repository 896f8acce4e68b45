//! A short version of `seabed-tests metamorphic`.

use seabed_tests::crash::metamorphic::{MetamorphicCounts, metamorphic, tells_a_step_less};

#[test]
fn stores_of_other_sizes_show_the_same() {
    let (mut all, mut wrong) = (MetamorphicCounts::default(), Vec::new());
    for seed in 1..13 {
        all.add(&metamorphic(seed, |what| wrong.push(what.to_owned())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{}", all.line());
    assert_eq!((all.same + all.no_room, all.different), (all.stores, 0), "{}", all.line());
    assert!(all.same > all.stores / 2, "{}", all.line());
}

/// A step that is left out shows, in most programs; in others a later one covers it or it changed nothing.
#[test]
fn another_program_shows_something_else() {
    let told =
        (1..21).filter(|seed| tells_a_step_less(*seed).unwrap_or_else(|broken| panic!("{broken}"))).count();
    assert!(told > 10, "{told}");
}
