//! The modules of a crate, read with `syn`: the items that each of them defines, its child modules, and the names that it imports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, ForeignItem, Item, ItemUse, Meta, Token, UseTree};

/// A module: a whole file, or an inline module in one.
pub struct Module {
    /// The file that holds it.
    pub file: PathBuf,
    /// The module that declares it; `None` for the root of the crate.
    pub parent: Option<usize>,
    /// Its items, without child modules and without items that are compiled for tests only.
    pub items: Vec<Item>,
    /// Its child modules by name. Alternatives under different features share a name.
    pub children: BTreeMap<String, Vec<usize>>,
    /// The names of its items. The value is true if other names can follow in a path (`Type::new`), false for functions and the like.
    pub defined: BTreeMap<String, bool>,
    /// The names that its `use` items import or re-export, those inside its functions included.
    pub imports: Vec<Import>,
    /// Whether a macro call defines some of its items, so that their names are unknown here.
    pub has_generated_items: bool,
}

/// A name that a `use` item brings into a module.
#[derive(Clone)]
pub struct Import {
    /// The name in the module; `*` for a glob.
    pub name: String,
    /// The path, as written.
    pub path: Vec<String>,
    /// Whether it is written as `path::{self}`, which names a module or type, but never a function.
    pub is_self: bool,
}

/// All modules of a crate; the first is its root.
pub struct Modules {
    /// The modules.
    pub all: Vec<Module>,
    /// The files that define each `macro_rules!` macro, by its name.
    pub macros: BTreeMap<String, BTreeSet<PathBuf>>,
}

/// Returns whether attributes say that the item is compiled for tests only.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    let for_tests = |attribute: &Attribute| match attribute.path().is_ident("cfg") {
        true => attribute.parse_args::<Meta>().is_ok_and(|predicate| needs_test(&predicate)),
        false => attribute.path().segments.last().is_some_and(|segment| segment.ident == "test"),
    };
    attributes.iter().any(for_tests)
}

/// Returns whether a `cfg` predicate can hold only if `test` does.
fn needs_test(predicate: &Meta) -> bool {
    let Meta::List(list) = predicate else { return predicate.path().is_ident("test") };
    let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return false };
    (list.path.is_ident("all") && parts.iter().any(needs_test))
        || (list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(needs_test))
}

/// Returns the attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        Item::ExternCrate(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::ForeignMod(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Macro(one) => &one.attrs,
        Item::Mod(one) => &one.attrs,
        Item::Static(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Trait(one) => &one.attrs,
        Item::TraitAlias(one) => &one.attrs,
        Item::Type(one) => &one.attrs,
        Item::Union(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        _ => &[],
    }
}

/// Returns an identifier as text, without the `r#` of a raw one.
pub fn name(identifier: &syn::Ident) -> String {
    identifier.unraw().to_string()
}

/// Lists the names that a `use` item imports. Paths into other crates that are written with `::` in front are left out.
pub fn imports(item: &ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    if item.leading_colon.is_none() {
        collect_imports(&item.tree, &[], &mut found);
    }
    found
}

fn collect_imports(tree: &UseTree, before: &[String], found: &mut Vec<Import>) {
    let with = |identifier: &syn::Ident| [before, &[name(identifier)]].concat();
    let mut add = |name: String, path: Vec<String>, is_self: bool| found.push(Import { name, path, is_self });
    match tree {
        UseTree::Path(path) => collect_imports(&path.tree, &with(&path.ident), found),
        UseTree::Name(one) if one.ident == "self" => add(before.last().cloned().unwrap_or_default(), before.to_vec(), true),
        UseTree::Name(one) => add(name(&one.ident), with(&one.ident), false),
        UseTree::Rename(one) if one.ident == "self" => add(name(&one.rename), before.to_vec(), true),
        UseTree::Rename(one) => add(name(&one.rename), with(&one.ident), false),
        UseTree::Glob(_) => add("*".into(), before.to_vec(), true),
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect_imports(tree, before, found)),
    }
}

/// Collects the `use` items of an item, those inside function bodies included.
#[derive(Default)]
struct Imports(Vec<Import>);

impl<'ast> Visit<'ast> for Imports {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(_) => {}
            item if is_for_tests(attributes(item)) => {}
            Item::Use(one) => self.0.extend(imports(one)),
            item => visit::visit_item(self, item),
        }
    }
}

/// Lists the names that an item defines, each with whether other names can follow it in a path.
fn definitions(item: &Item) -> Vec<(String, bool)> {
    let (identifier, has_members) = match item {
        Item::Const(one) => (&one.ident, false),
        Item::Fn(one) => (&one.sig.ident, false),
        Item::Static(one) => (&one.ident, false),
        Item::Enum(one) => (&one.ident, true),
        Item::Struct(one) => (&one.ident, true),
        Item::Trait(one) => (&one.ident, true),
        Item::TraitAlias(one) => (&one.ident, true),
        Item::Type(one) => (&one.ident, true),
        Item::Union(one) => (&one.ident, true),
        Item::Macro(one) => match &one.ident {
            Some(identifier) => (identifier, false),
            None => return Vec::new(),
        },
        Item::ForeignMod(one) => {
            let foreign = |item: &ForeignItem| match item {
                ForeignItem::Fn(one) => Some((name(&one.sig.ident), false)),
                ForeignItem::Static(one) => Some((name(&one.ident), false)),
                _ => None,
            };
            return one.items.iter().filter_map(foreign).collect();
        }
        _ => return Vec::new(),
    };
    vec![(name(identifier), has_members)]
}

/// Returns the value of a `#[path = "…"]` attribute.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
    Some(text.value())
}

/// Where the files of a module's child modules are.
struct Folders {
    /// The folder of `child.rs` or `child/mod.rs`.
    children: PathBuf,
    /// The folder that a `#[path]` attribute starts from.
    path_attributes: PathBuf,
}

impl Modules {
    /// Reads a crate from the file of its root.
    ///
    /// # Panics
    /// A file is missing or cannot be parsed.
    pub fn read(root: &Path) -> Self {
        let mut modules = Self { all: Vec::new(), macros: BTreeMap::new() };
        modules.add_file(root, parent_folder(root), None);
        modules
    }

    /// Reads a file as a module. `children` is the folder of its child modules. Returns `None` if the file is for tests only.
    fn add_file(&mut self, file: &Path, children: PathBuf, parent: Option<usize>) -> Option<usize> {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let folders = Folders { children, path_attributes: parent_folder(file) };
        (!is_for_tests(&parsed.attrs)).then(|| self.add(file, &folders, parent, parsed.items))
    }

    fn add(&mut self, file: &Path, folders: &Folders, parent: Option<usize>, items: Vec<Item>) -> usize {
        let this = self.all.len();
        self.all.push(Module {
            file: file.to_owned(),
            parent,
            items: Vec::new(),
            children: BTreeMap::new(),
            defined: BTreeMap::new(),
            imports: Vec::new(),
            has_generated_items: false,
        });
        for item in items.into_iter().filter(|item| !is_for_tests(attributes(item))) {
            match item {
                Item::Mod(module) => self.add_child(file, folders, this, module),
                item => self.add_item(this, item),
            }
        }
        this
    }

    fn add_item(&mut self, module: usize, item: Item) {
        if let Item::Macro(syn::ItemMacro { ident: Some(identifier), .. }) = &item {
            let file = self.all[module].file.clone();
            self.macros.entry(name(identifier)).or_default().insert(file);
        }
        let mut imports = Imports::default();
        imports.visit_item(&item);
        let module = &mut self.all[module];
        module.imports.extend(imports.0);
        module.has_generated_items |= matches!(&item, Item::Macro(call) if call.ident.is_none());
        for (name, has_members) in definitions(&item) {
            *module.defined.entry(name).or_default() |= has_members;
        }
        module.items.push(item);
    }

    fn add_child(&mut self, file: &Path, folders: &Folders, parent: usize, module: syn::ItemMod) {
        let name = name(&module.ident);
        let own = folders.children.join(&name);
        let child = match (module.content, path_attribute(&module.attrs)) {
            (Some((_, items)), path) => {
                let children = path.map_or(own, |path| folders.path_attributes.join(path));
                Some(self.add(file, &Folders { path_attributes: children.clone(), children }, Some(parent), items))
            }
            // A file that a `#[path]` attribute names has its child modules beside it, as `mod.rs` has.
            (None, Some(path)) => {
                let file = folders.path_attributes.join(path);
                self.add_file(&file, parent_folder(&file), Some(parent))
            }
            (None, None) => {
                let flat = folders.children.join(format!("{name}.rs"));
                self.add_file(&if flat.is_file() { flat } else { own.join("mod.rs") }, own, Some(parent))
            }
        };
        self.all[parent].children.entry(name).or_default().extend(child);
    }
}

fn parent_folder(file: &Path) -> PathBuf {
    file.parent().unwrap().to_owned()
}
