//! Finds the files of a crate that name something that another file defines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use super::modules::{Modules, attributes, imports, is_for_tests, name};
use super::tokens::Tokens;

/// For each file, the files that define something that it names, each with one path that names it, as it is written.
pub type Edges = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

/// Returns the edges between the files of a crate, read from the file of its root.
///
/// A `use`, a path in code (in the arguments of macros and attributes too) and a call of a macro count towards the file that defines the
/// item, through all re-exports. `mod` lines and re-exports (`pub use`) are no edges, unless the file also uses the name that it re-exports,
/// and what is compiled for tests only does not count. Methods and fields are not followed: they have no path.
pub fn edges(root: &Path) -> Edges {
    let modules = Modules::read(root);
    let mut edges: Edges = modules.all.iter().map(|module| (module.file.clone(), BTreeMap::new())).collect();
    for (index, module) in modules.all.iter().enumerate() {
        let mut collector = Collector { modules: &modules, module: index, found: BTreeMap::new() };
        module.items.iter().for_each(|item| collector.visit_item(item));
        for (target, path) in collector.found {
            if target != module.file {
                edges.entry(module.file.clone()).or_default().entry(target).or_insert(path);
            }
        }
    }
    edges
}

/// Collects the edges of one module, to its own file included.
struct Collector<'a> {
    modules: &'a Modules,
    module: usize,
    found: BTreeMap<PathBuf, String>,
}

impl Collector<'_> {
    fn add(&mut self, path: &[String], files: impl IntoIterator<Item = PathBuf>) {
        for file in files {
            self.found.entry(file).or_insert_with(|| path.join("::"));
        }
    }

    /// Adds a path in code. A single name in lower case that is not called is taken for a local variable.
    fn add_path(&mut self, path: &[String], is_called: bool) {
        let is_type = path[0].starts_with(char::is_uppercase);
        if path.len() > 1 || is_type || is_called {
            self.add(path, self.modules.definers(self.module, path));
        }
    }

    /// Adds the path of a macro call. Macros are known by their names everywhere after their definition, without an import.
    fn add_macro(&mut self, path: &[String]) {
        let files = self.modules.definers(self.module, path);
        match path.last().and_then(|name| self.modules.macros.get(name)) {
            Some(definers) if files.is_empty() && (path.len() == 1 || path[0] == "crate") => self.add(path, definers.iter().cloned()),
            _ => self.add(path, files),
        }
    }

    fn add_tokens(&mut self, tokens: &Tokens) {
        for path in &tokens.paths {
            match path.is_macro {
                true => self.add_macro(&path.names),
                false => self.add_path(&path.names, path.is_called),
            }
        }
    }
}

/// Returns the names of a path, or `None` if it begins with `::`, as paths into other crates do.
fn names(path: &syn::Path) -> Option<Vec<String>> {
    path.leading_colon.is_none().then(|| path.segments.iter().map(|segment| name(&segment.ident)).collect())
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Mod(_) => {}
            item if is_for_tests(attributes(item)) => {}
            syn::Item::Use(one) if matches!(one.vis, syn::Visibility::Inherited) => {
                for import in imports(one) {
                    self.add(&import.path, self.modules.definers_of_import(self.module, &import));
                }
            }
            syn::Item::Use(_) => {}
            item => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(names) = names(path) {
            self.add_path(&names, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(names) = names(&function.path)
        {
            self.add_path(&names, true);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(names) = names(&call.path) {
            self.add_macro(&names);
        }
        self.add_tokens(&Tokens::of_macro(call));
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let syn::Meta::List(list) = &attribute.meta else { return };
        let tokens = Tokens::of_attribute(list);
        self.add_tokens(&tokens);
        // Serde's attributes name functions and modules in text, as in `with = "crate::bits"`.
        if list.path.is_ident("serde") {
            for path in tokens.texts.iter().filter_map(|text| syn::parse_str::<syn::Path>(text).ok()) {
                let names = names(&path).unwrap_or_default();
                let members = ["serialize", "deserialize"].map(|member| [&names[..], &[member.to_owned()]].concat());
                [names].iter().chain(&members).filter(|path| path.len() > 1).for_each(|path| self.add_path(path, true));
            }
        }
    }
}
