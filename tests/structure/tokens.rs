//! Finds names in tokens that `syn` does not parse: the arguments of macros and attributes.

use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Ident, Lifetime, LitStr, Token, braced, bracketed, parenthesized, token};

use super::modules::name;

/// A path of one or more names.
pub struct NamedPath {
    /// The names.
    pub names: Vec<String>,
    /// Whether arguments in parentheses follow, as after a function.
    pub is_called: bool,
    /// Whether `!` follows, as after a macro.
    pub is_macro: bool,
}

/// The paths and texts in some tokens.
#[derive(Default)]
pub struct Tokens {
    /// The paths, in order.
    pub paths: Vec<NamedPath>,
    /// The values of the string literals, in order.
    pub texts: Vec<String>,
}

impl Tokens {
    /// Reads the tokens of a macro call.
    pub fn of_macro(call: &syn::Macro) -> Self {
        let mut found = Self::default();
        let read = |input: ParseStream| found.read(input);
        read.parse2(call.tokens.clone()).unwrap();
        found
    }

    /// Reads the arguments of an attribute.
    pub fn of_attribute(attribute: &syn::MetaList) -> Self {
        let mut found = Self::default();
        let read = |input: ParseStream| found.read(input);
        read.parse2(attribute.tokens.clone()).unwrap();
        found
    }

    fn read(&mut self, input: ParseStream) -> syn::Result<()> {
        // A name after `.` is a field or method, and a path after `::` belongs to another crate or continues an expression.
        let mut continues = false;
        while !input.is_empty() {
            let inner;
            if input.peek(token::Paren) {
                parenthesized!(inner in input);
                self.read(&inner)?;
            } else if input.peek(token::Bracket) {
                bracketed!(inner in input);
                self.read(&inner)?;
            } else if input.peek(token::Brace) {
                braced!(inner in input);
                self.read(&inner)?;
            } else if input.peek(Lifetime) {
                input.parse::<Lifetime>()?;
            } else if input.peek(LitStr) {
                self.texts.push(input.parse::<LitStr>()?.value());
            } else if input.peek(Ident::peek_any) {
                let path = read_path(input)?;
                self.paths.extend((!continues).then_some(path));
            } else if input.peek(Token![..]) {
                input.parse::<Token![..]>()?;
            } else if input.peek(Token![.]) || input.peek(Token![::]) {
                skip(input)?;
                continues = true;
                continue;
            } else {
                skip(input)?;
            }
            continues = false;
        }
        Ok(())
    }
}

fn read_path(input: ParseStream) -> syn::Result<NamedPath> {
    let mut names = vec![name(&input.call(Ident::parse_any)?)];
    while input.peek(Token![::]) && input.peek3(Ident::peek_any) {
        input.parse::<Token![::]>()?;
        names.push(name(&input.call(Ident::parse_any)?));
    }
    let is_macro = input.peek(Token![!]) && !input.peek(Token![!=]);
    Ok(NamedPath { names, is_called: input.peek(token::Paren), is_macro })
}

/// Skips a token; `::` as a whole.
fn skip(input: ParseStream) -> syn::Result<()> {
    if input.peek(Token![::]) {
        return input.parse::<Token![::]>().map(drop);
    }
    input.step(|cursor| cursor.token_tree().map(|(_, rest)| ((), rest)).ok_or_else(|| cursor.error("a token is expected")))
}
