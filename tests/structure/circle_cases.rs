//! Small crates with and without circles, which show that `circles.rs` finds all circles and nothing else.

use std::collections::BTreeSet;

use super::circles::circles;
use super::edges::edges;

/// Writes a crate and checks that these are its circles. The files of a circle are separated by spaces.
fn check_circles(files: &[(&str, &str)], expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let edges = edges(&directory.path().join("lib.rs"));
    let short = |circle: BTreeSet<std::path::PathBuf>| {
        let names = circle.iter().map(|file| file.strip_prefix(directory.path()).unwrap().display().to_string());
        names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    let found: Vec<String> = circles(&edges).into_iter().map(short).collect();
    assert_eq!(found, expected, "{files:#?}\n{edges:#?}");
}

#[test]
fn a_circle_of_use_items_and_one_of_paths_are_found() {
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use crate::b::two;\npub fn one() { two(); }\n"),
            ("b.rs", "use super::a;\npub fn two() { a::one(); }\n"),
            ("c.rs", "use crate::a::one;\npub fn three() { one(); }\n"),
        ],
        &["a.rs b.rs"],
    );
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "pub struct One(crate::b::Two);\n"),
            ("b.rs", "pub type Two = Option<super::c::Three<'static>>;\n"),
            ("c.rs", "pub struct Three<'a>(&'a dyn Fn(crate::a::One));\n"),
        ],
        &["a.rs b.rs c.rs"],
    );
}

#[test]
fn files_that_name_each_other_in_one_direction_are_no_circle() {
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\nuse a::one;\npub fn all() { one(); c::three(); }\n"),
            ("a.rs", "use crate::{b::{self, Two}, c::three};\npub fn one() -> Two { three(); b::two() }\n"),
            ("b.rs", "use super::c;\npub struct Two;\npub fn two() -> Two { c::three(); Two }\n"),
            ("c.rs", "use std::fmt;\npub fn three() -> impl fmt::Debug { core::iter::empty::<u8>() }\n"),
        ],
        &[],
    );
}

#[test]
fn a_path_from_the_file_that_declares_the_module_counts() {
    let forward = |text| {
        [("lib.rs", "mod router;\n"), ("router.rs", "mod forward;\npub fn route() { forward::serve(); }\n"), ("router/forward.rs", text)]
    };
    check_circles(&forward("pub fn serve() { super::route(); }\n"), &["router.rs router/forward.rs"]);
    check_circles(&forward("pub fn serve() {}\n"), &[]);
    // Declaring a module does not name anything in it.
    check_circles(
        &[
            ("lib.rs", "mod router;\n"),
            ("router.rs", "mod forward;\npub fn route() {}\n"),
            ("router/forward.rs", "pub fn serve() { super::route(); }\n"),
        ],
        &[],
    );
}

#[test]
fn a_re_export_counts_towards_the_file_that_defines_the_item() {
    // The re-exports of `lib.rs` and `c/mod.rs` are no edges, and both are in no circle.
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::one;\npub use c::*;\n"),
            ("a.rs", "pub fn one() { crate::b::two(); }\n"),
            ("b.rs", "use crate::c::three as third;\npub fn two() { third(); }\n"),
            ("c/mod.rs", "mod below;\npub use below::three;\n"),
            ("c/below.rs", "use crate::one;\npub fn three() { one(); }\n"),
        ],
        &["a.rs b.rs c/below.rs"],
    );
    // `below.rs` uses an item of the file that re-exports its own item: without more that is no circle.
    let with = |text| [("lib.rs", "mod c;\n"), ("c.rs", text), ("c/below.rs", "pub struct Three(pub super::Shared);\n")];
    check_circles(&with("mod below;\npub use below::Three;\npub struct Shared;\n"), &[]);
    check_circles(
        &with("mod below;\npub use below::Three;\npub struct Shared;\npub fn new() -> Three { Three(Shared) }\n"),
        &["c.rs c/below.rs"],
    );
    check_circles(&with("mod below;\npub use self::below::*;\npub struct Shared;\npub fn new(_: &Three) {}\n"), &["c.rs c/below.rs"]);
}

#[test]
fn re_exports_that_go_round_end() {
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\npub use a::*;\npub use b::*;\npub fn all() { missing::item(); }\n"),
            ("a.rs", "pub use crate::b::*;\npub use crate::b::b;\npub fn a() { b(); nowhere(); }\n"),
            ("b.rs", "pub use crate::*;\npub fn b() { crate::nowhere::item(); }\n"),
        ],
        &[],
    );
}

#[test]
fn modules_at_other_paths_are_read() {
    // `inner` is beside the file that a `#[path]` attribute names, as it would be beside a `mod.rs`.
    let crate_with = |inner| {
        [
            ("lib.rs", "mod a;\n"),
            ("a.rs", "#[path = \"elsewhere/file.rs\"]\nmod odd;\npub fn one() { odd::inner::two(); }\n"),
            ("elsewhere/file.rs", "pub mod inner;\n"),
            ("elsewhere/inner.rs", inner),
        ]
    };
    check_circles(&crate_with("pub fn two() { crate::a::one(); }\n"), &["a.rs elsewhere/inner.rs"]);
    check_circles(&crate_with("pub fn two() { super::super::super::a::one(); }\n"), &["a.rs elsewhere/inner.rs"]);
    check_circles(&crate_with("pub fn two() {}\n"), &[]);
}

#[test]
fn an_inline_module_belongs_to_its_file() {
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            (
                "a.rs",
                "pub fn one() { inline::two(); }\nmod inline {\n    use super::super::b;\n    pub fn two() { super::one(); b::three(); }\n}\n",
            ),
            ("b.rs", "pub fn three() {}\n"),
        ],
        &[],
    );
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "mod inline {\n    pub struct One(pub crate::b::Three);\n}\npub use inline::One;\n"),
            ("b.rs", "pub struct Three;\nimpl Three { pub fn one(self) -> super::a::One { crate::a::inline::One(self) } }\n"),
        ],
        &["a.rs b.rs"],
    );
    // The files of an inline module's children are in a folder of its name.
    check_circles(
        &[
            ("lib.rs", "mod a;\n"),
            ("a.rs", "mod inline {\n    pub mod child;\n}\npub fn one() { inline::child::two(); }\n"),
            ("a/inline/child.rs", "pub fn two() { super::super::one(); }\n"),
        ],
        &["a.rs a/inline/child.rs"],
    );
}

#[test]
fn each_alternative_of_a_module_counts() {
    let crate_with = |on, off| {
        [
            ("lib.rs", "mod a;\n"),
            (
                "a.rs",
                "#[cfg(feature = \"x\")]\nmod imp;\n#[cfg(not(feature = \"x\"))]\n#[path = \"a/none.rs\"]\nmod imp;\npub fn one() { imp::two(); }\n",
            ),
            ("a/imp.rs", on),
            ("a/none.rs", off),
        ]
    };
    let (circle, no_circle) = ("pub fn two() { super::one(); }\n", "pub fn two() {}\n");
    check_circles(&crate_with(no_circle, no_circle), &[]);
    check_circles(&crate_with(circle, no_circle), &["a.rs a/imp.rs"]);
    check_circles(&crate_with(no_circle, circle), &["a.rs a/none.rs"]);
    // Alternatives of an import count as well.
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "#[cfg(unix)]\nuse crate::b::two;\n#[cfg(not(unix))]\nuse crate::c::two;\npub fn one() { two(); }\n"),
            ("b.rs", "pub fn two() {}\n"),
            ("c.rs", "pub fn two() { crate::a::one(); }\n"),
        ],
        &["a.rs c.rs"],
    );
}

#[test]
fn code_for_tests_does_not_count() {
    check_circles(
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "pub fn one() { crate::b::two(); }\n"),
            (
                "b.rs",
                "pub fn two() {}\n#[cfg(test)]\nuse crate::a::one;\n#[cfg(all(test, feature = \"x\"))]\nmod tests { use crate::a::one; }\n\
                 #[cfg(test)]\nmod more;\n#[test]\nfn check() { crate::a::one(); }\nimpl Two { #[cfg(test)]\nfn one() { crate::a::one(); } }\n",
            ),
            ("b/more.rs", "use crate::a::one;\n"),
        ],
        &[],
    );
    // `any(test, …)` and `not(test)` are compiled without tests, too.
    for predicate in ["any(test, feature = \"x\")", "not(test)"] {
        let b = format!("pub fn two() {{}}\n#[cfg({predicate})]\npub fn three() {{ crate::a::one(); }}\n");
        check_circles(
            &[("lib.rs", "mod a;\nmod b;\n"), ("a.rs", "pub fn one() { crate::b::two(); }\n"), ("b.rs", b.as_str())],
            &["a.rs b.rs"],
        );
    }
}

#[test]
fn paths_in_macros_and_attributes_count() {
    for b in [
        "pub fn two() { assert!([1].iter().all(|_| crate::a::one()), \"{}\", 0..1); }\n",
        "pub fn two() { vec![super::a::one(); 2]; }\n",
        "#[derive(Default)]\npub struct Two(#[serde(with = \"crate::a\")] u8);\npub fn two() {}\n",
        "#[serde(default = \"crate::a::one\")]\npub struct Two;\npub fn two() {}\n",
        "#[schema(value_type = crate::a::One)]\npub struct Two;\npub fn two() {}\n",
        "pub fn two() { three!(); }\n",
    ] {
        let a = "pub struct One;\n#[macro_use]\nmod inner { macro_rules! three { () => { 3 } } }\npub fn one() { crate::b::two(); }\npub fn serialize() {}\n";
        check_circles(&[("lib.rs", "#[macro_use]\nmod a;\nmod b;\n"), ("a.rs", a), ("b.rs", b)], &["a.rs b.rs"]);
    }
    // The names of fields, methods, other crates and texts are no paths into this crate.
    for b in [
        "pub fn two(a: A) { assert!(a.one() && a.One.one, \"crate::a::one()\"); }\n",
        "pub fn two() { println!(\"{}\", ::a::one()); other!(a::one()); }\n",
        "#[doc = \"crate::a::one\"]\npub fn two() {}\n",
    ] {
        check_circles(&[("lib.rs", "mod a;\nmod b;\n"), ("a.rs", "pub fn one() { crate::b::two(); }\n"), ("b.rs", b)], &[]);
    }
}

#[test]
fn a_function_and_a_module_of_one_name_are_told_apart() {
    let crate_with = |b| {
        [
            ("lib.rs", "mod b;\nmod catalog;\nmod template;\npub use catalog::template;\n"),
            ("catalog.rs", "pub fn template() {}\n"),
            ("template.rs", "pub struct Template;\npub fn make() { crate::b::two(); }\n"),
            ("b.rs", b),
        ]
    };
    check_circles(&crate_with("pub fn two() { crate::template(); }\n"), &[]);
    check_circles(&crate_with("use crate::template;\npub fn two() { template(); }\n"), &[]);
    check_circles(&crate_with("use crate::template::Template;\npub fn two() -> Template { Template }\n"), &["b.rs template.rs"]);
    check_circles(&crate_with("use crate::template;\npub fn two() -> template::Template { todo!() }\n"), &["b.rs template.rs"]);
}

#[test]
fn names_that_a_function_imports_count() {
    let crate_with = |b| {
        [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "pub mod deep;\npub fn one() {}\n"),
            ("a/deep.rs", "pub fn three() { crate::b::two(); }\n"),
            ("b.rs", b),
        ]
    };
    check_circles(&crate_with("pub fn two() { use crate::a; a::deep::three(); }\n"), &["a/deep.rs b.rs"]);
    check_circles(&crate_with("pub fn two() { use crate::a; a::one(); }\n"), &[]);
}

#[test]
fn items_that_a_macro_defines_belong_to_its_file() {
    let crate_with = |table| {
        [
            ("lib.rs", "mod b;\nmod table;\npub use table::Kind;\n"),
            ("table.rs", table),
            ("b.rs", "use crate::Kind;\npub fn two(_: Kind) {}\n"),
        ]
    };
    check_circles(&crate_with("kinds! { One => crate::b::two, }\n"), &["b.rs table.rs"]);
    check_circles(&crate_with("kinds! { One => two, }\n"), &[]);
}
