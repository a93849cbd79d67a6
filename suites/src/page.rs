//! Plain HTML pages: escaping, form controls, and a layout that changes with the seed.

use axum::response::Html;

use crate::labels::choose_wording;
use crate::seeded::{BRANDS, Rng};

/// The position of the navigation on the page.
#[derive(Clone, Copy, Debug)]
enum NavPosition {
    Top,
    Side,
    Bottom,
}

/// The appearance of one instance: brand, layout, wording, decoy links.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    brand: String,
    nav: NavPosition,
    table: bool,
    salt: u64,
    decoys: Vec<&'static str>,
    accent: &'static str,
}

const DECOYS: [&str; 6] = ["Help", "Contact", "News", "Terms", "Jobs", "Press"];
const ACCENTS: [&str; 5] = ["#24527a", "#2f6b3c", "#7a3b24", "#5b3a7a", "#444444"];
const CSS: &str = "body{font:15px/1.5 sans-serif;margin:0;color:#222;background:#f6f6f4}header,footer{padding:.6em 1.2em;background:var(--a);color:#fff}\
header a,footer a{color:#fff;margin-right:1em}header button{background:#fff;color:var(--a)}main{padding:1em 1.2em;background:#fff;max-width:46em}.side{display:flex;gap:1em}.side nav{padding:1em}\
.side nav a{margin-right:.8em}table{border-collapse:collapse}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:left}\
form{margin:.6em 0}p{margin:.4em 0}input,select{font:inherit;padding:.15em .3em}button{font:inherit;padding:.15em .8em;background:var(--a);color:#fff;border:0;border-radius:3px}\
.message{background:#fff3c4;padding:.4em .8em}h1{font-size:1.3em;margin:.2em 0}";

impl Style {
    /// Draws a style for one instance; `kind` is the word after the brand, as in `Harbour Shop`.
    pub(crate) fn draw(rng: &mut Rng, kind: &str) -> Self {
        let decoys = rng.below(2);
        Self {
            brand: format!("{} {kind}", rng.pick(&BRANDS)),
            nav: rng.pick(&[NavPosition::Top, NavPosition::Side, NavPosition::Bottom]),
            table: rng.chance(50),
            salt: rng.draw(),
            decoys: rng.sample(&DECOYS, decoys),
            accent: rng.pick(&ACCENTS),
        }
    }

    /// Returns the wording of a canonical label on this site.
    pub(crate) fn label(&self, canonical: &'static str) -> &'static str {
        choose_wording(canonical, self.salt)
    }

    /// Renders a link with a canonical label.
    pub(crate) fn nav(&self, href: &str, canonical: &'static str) -> String {
        link(href, self.label(canonical))
    }

    /// Renders a button with a canonical label.
    pub(crate) fn button(&self, canonical: &'static str) -> String {
        format!("<button>{}</button>", esc(self.label(canonical)))
    }

    /// Renders a form that the button with this canonical label sends with POST.
    pub(crate) fn post(&self, action: &str, controls: &str, canonical: &'static str) -> String {
        format!("<form method=\"post\" action=\"{}\">{controls} {}</form>", esc(action), self.button(canonical))
    }

    /// Renders a form that the button with this canonical label sends with GET.
    pub(crate) fn get(&self, action: &str, controls: &str, canonical: &'static str) -> String {
        format!("<form action=\"{}\">{controls} {}</form>", esc(action), self.button(canonical))
    }

    /// Renders rows of cells (HTML) as a table or a list.
    pub(crate) fn rows(&self, head: &[&str], rows: &[Vec<String>]) -> String {
        if !self.table {
            let items: String = rows.iter().map(|cells| format!("<li>{}</li>", cells.join(" "))).collect();
            return format!("<ul>{items}</ul>");
        }
        let head: String = head.iter().map(|cell| format!("<th>{}</th>", esc(cell))).collect();
        let body: String = rows
            .iter()
            .map(|cells| format!("<tr>{}</tr>", cells.iter().map(|cell| format!("<td>{cell}</td>")).collect::<String>()))
            .collect();
        format!("<table><tr>{head}</tr>{body}</table>")
    }

    /// Renders facts as lines such as `Price: 12`, or as a table of two columns.
    pub(crate) fn facts(&self, facts: &[(&str, String)]) -> String {
        if !self.table {
            return facts.iter().map(|(name, value)| format!("<p>{}: {}</p>", esc(name), esc(value))).collect();
        }
        let rows: String = facts.iter().map(|(name, value)| format!("<tr><td>{}</td><td>{}</td></tr>", esc(name), esc(value))).collect();
        format!("<table>{rows}</table>")
    }

    /// Renders `Page 2 of 3` and a link to the next page, if there is more than one page.
    pub(crate) fn pager(&self, page: usize, pages: usize, href: impl Fn(usize) -> String) -> String {
        match pages {
            0 | 1 => String::new(),
            _ if page >= pages => format!("<p>Page {page} of {pages}</p>"),
            _ => format!("<p>Page {page} of {pages} {}</p>", self.nav(&href(page + 1), "Next")),
        }
    }

    /// Renders the whole page; `tools` (search boxes and the like) stand beside the navigation.
    pub(crate) fn page(&self, title: &str, links: &[String], tools: &str, message: &str, body: &str) -> Html<String> {
        let decoys: String = self.decoys.iter().map(|name| format!(" {}", link("/info", name))).collect();
        let nav = format!("<nav>{}{decoys}</nav>", links.join(" "));
        let message = if message.is_empty() { String::new() } else { format!("<p class=\"message\">{}</p>", esc(message)) };
        let main = format!("<main><h1>{}</h1>{message}{body}</main>", esc(title));
        let brand = esc(&self.brand);
        let body = match self.nav {
            NavPosition::Top => format!("<header>{brand}{nav}{tools}</header>{main}"),
            NavPosition::Side => format!("<header>{brand}</header><div class=\"side\">{nav}<div>{tools}{main}</div></div>"),
            NavPosition::Bottom => format!("<header>{brand}{tools}</header>{main}<footer>{nav}</footer>"),
        };
        Html(format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{brand}</title><link rel=\"icon\" href=\"data:,\">\
             <style>:root{{--a:{}}}{CSS}</style></head><body>{body}</body></html>",
            self.accent
        ))
    }
}

/// Escapes text for HTML content and double-quoted attributes.
pub(crate) fn esc(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Renders a link.
pub(crate) fn link(href: &str, text: &str) -> String {
    format!("<a href=\"{}\">{}</a>", esc(href), esc(text))
}

/// Renders a text field with its label; `name` is also its id, so it must be unique on the page.
pub(crate) fn field(label: &str, name: &str, value: &str) -> String {
    format!("<p><label for=\"{name}\">{}</label> <input id=\"{name}\" name=\"{name}\" value=\"{}\"></p>", esc(label), esc(value))
}

/// Renders a password field with its label.
pub(crate) fn password(label: &str, name: &str) -> String {
    format!("<p><label for=\"{name}\">{}</label> <input type=\"password\" id=\"{name}\" name=\"{name}\"></p>", esc(label))
}

/// Renders a search field with its label.
pub(crate) fn search(label: &str, name: &str, value: &str) -> String {
    format!("<label for=\"{name}\">{}</label> <input type=\"search\" id=\"{name}\" name=\"{name}\" value=\"{}\">", esc(label), esc(value))
}

/// Renders a drop-down list with its label; the option equal to `value` is selected.
pub(crate) fn choice<T: AsRef<str>>(label: &str, name: &str, options: &[T], value: &str) -> String {
    let options: String = options
        .iter()
        .map(|option| {
            let (option, chosen) = (option.as_ref(), if option.as_ref() == value { " selected" } else { "" });
            format!("<option{chosen}>{}</option>", esc(option))
        })
        .collect();
    format!("<p><label for=\"{name}\">{}</label> <select id=\"{name}\" name=\"{name}\">{options}</select></p>", esc(label))
}

/// Renders a checkbox or radio button (`kind`) with its label; it is checked if `checked` equals `value`.
pub(crate) fn checkable(kind: &str, label: &str, name: &str, value: &str, checked: &str) -> String {
    let checked = if checked == value { " checked" } else { "" };
    let id = format!("{name}-{value}");
    format!(
        "<p><input type=\"{kind}\" id=\"{0}\" name=\"{name}\" value=\"{1}\"{checked}> <label for=\"{0}\">{2}</label></p>",
        esc(&id),
        esc(value),
        esc(label)
    )
}
