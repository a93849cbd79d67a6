//! Finds the files that define the item or module that a path names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::modules::{Import, Modules};

/// The kind of definition that the last name of a path is resolved to.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Item,
    Module,
}

impl Modules {
    /// Returns the files that define the item that a path in the code of a module names. Several files are alternatives under different
    /// features. The result is empty for items of other crates, and for modules.
    pub fn definers(&self, module: usize, path: &[String]) -> BTreeSet<PathBuf> {
        self.search(module, path, Wanted::Item)
    }

    /// Returns the files that define the item that an import names, or the module if no item has the name.
    pub fn definers_of_import(&self, module: usize, import: &Import) -> BTreeSet<PathBuf> {
        let order = if import.is_self { [Wanted::Module, Wanted::Item] } else { [Wanted::Item, Wanted::Module] };
        let found = order.into_iter().map(|wanted| self.search(module, &import.path, wanted));
        found.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
    }

    fn search(&self, module: usize, path: &[String], wanted: Wanted) -> BTreeSet<PathBuf> {
        let mut search = Search { modules: self, wanted, followed: Vec::new(), in_glob: false, found: BTreeSet::new() };
        search.from(module, path);
        search.found
    }
}

/// A search for the files that define the last name of a path. Its functions return whether they found one.
struct Search<'a> {
    modules: &'a Modules,
    wanted: Wanted,
    /// The imports (module and number) that the search is just following. None is followed twice, which ends circles of re-exports.
    followed: Vec<(usize, usize)>,
    /// Whether the search is just following a glob.
    in_glob: bool,
    found: BTreeSet<PathBuf>,
}

impl Search<'_> {
    /// Follows a path as it is written in a module.
    fn from(&mut self, module: usize, path: &[String]) -> bool {
        match path.split_first() {
            Some((first, rest)) if first == "crate" => self.inside(0, rest),
            Some((first, _)) if first == "self" || first == "super" => self.inside(module, path),
            _ => self.named(module, path),
        }
    }

    /// Follows the rest of a path that has led into a module.
    fn inside(&mut self, module: usize, path: &[String]) -> bool {
        let here = &self.modules.all[module];
        match path.split_first() {
            None if self.wanted == Wanted::Module => self.found.insert(here.file.clone()),
            None => false,
            Some((first, rest)) if first == "self" => self.inside(module, rest),
            Some((first, rest)) if first == "super" => here.parent.is_some_and(|parent| self.inside(parent, rest)),
            Some(_) if self.named(module, path) => true,
            // A macro call may define an item of this name.
            Some(_) => here.has_generated_items && !self.in_glob && self.found.insert(here.file.clone()),
        }
    }

    /// Looks a path's first name up among the child modules, items and imports of a module, and then among its globs.
    fn named(&mut self, module: usize, path: &[String]) -> bool {
        let here = &self.modules.all[module];
        let Some((first, rest)) = path.split_first() else { return false };
        let mut found = false;
        for child in here.children.get(first).into_iter().flatten() {
            found |= self.inside(*child, rest);
        }
        if here.defined.get(first).is_some_and(|has_members| if rest.is_empty() { self.wanted == Wanted::Item } else { *has_members }) {
            self.found.insert(here.file.clone());
            found = true;
        }
        for (index, import) in here.imports.iter().enumerate().filter(|(_, import)| import.name == *first) {
            found |= self.follow(module, index, &[&import.path, rest].concat());
        }
        if !found {
            let outer = std::mem::replace(&mut self.in_glob, true);
            for (index, import) in here.imports.iter().enumerate().filter(|(_, import)| import.name == "*") {
                found |= self.follow(module, index, &[&import.path, path].concat());
            }
            self.in_glob = outer;
        }
        found
    }

    /// Follows an import of a module.
    fn follow(&mut self, module: usize, index: usize, path: &[String]) -> bool {
        if self.followed.contains(&(module, index)) {
            return false;
        }
        self.followed.push((module, index));
        let found = self.from(module, path);
        self.followed.pop();
        found
    }
}
