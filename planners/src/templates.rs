//! The sources of prompt templates: the built-in ones of a profile, and the files of a directory that replace them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use milepost_runtime::{Error, Result};
use minijinja::Environment;

use crate::config::{PlannersConfig, PromptProfile};

/// The ending of a template's file name.
const EXTENSION: &str = "jinja";

const SEED: [(&str, &str); 4] = [
    ("plan", include_str!("../prompts/seed/plan.jinja")),
    ("turn", include_str!("../prompts/seed/turn.jinja")),
    ("answer", include_str!("../prompts/seed/answer.jinja")),
    ("verify", include_str!("../prompts/seed/verify.jinja")),
];

const INSTRUCT: [(&str, &str); 4] = [
    ("plan", include_str!("../prompts/instruct/plan.jinja")),
    ("turn", include_str!("../prompts/instruct/turn.jinja")),
    ("answer", include_str!("../prompts/instruct/answer.jinja")),
    ("verify", include_str!("../prompts/instruct/verify.jinja")),
];

/// The source of one prompt template.
pub(crate) struct TemplateSource {
    name: &'static str,
    text: Cow<'static, str>,
    /// The file that the text was read from; `None` for a built-in template.
    file: Option<PathBuf>,
}

impl TemplateSource {
    /// A template that is part of the program.
    pub(crate) fn built_in((name, text): (&'static str, &'static str)) -> Self {
        Self { name, text: Cow::Borrowed(text), file: None }
    }

    /// Makes the error that the template does not compile.
    fn broken(&self, error: &minijinja::Error) -> Error {
        match &self.file {
            None => Error::Policy(format!("prompt template {}: {error}", self.name)),
            Some(file) => {
                let fix = "correct it, or remove it to use the built-in template";
                Error::BadInput(format!("`policy.prompts`: {} is not a valid template: {error}; {fix}", file.display()))
            }
        }
    }
}

/// Returns the templates of the configured profile, each replaced by the file of its name in the directory `policy.prompts`, if there is
/// one.
///
/// # Errors
/// The directory or a file cannot be read, or a file ending in `.jinja` has the name of no template.
pub(crate) fn sources(config: &PlannersConfig) -> Result<Vec<TemplateSource>> {
    let built_in = match config.prompt_profile {
        PromptProfile::Seed => SEED,
        PromptProfile::Instruct => INSTRUCT,
    };
    let mut sources: Vec<TemplateSource> = built_in.into_iter().map(TemplateSource::built_in).collect();
    let Some(directory) = &config.prompts else { return Ok(sources) };
    let mut files = template_files(directory)?;
    for source in &mut sources {
        let Some(at) = files.iter().position(|file| file.file_stem().is_some_and(|stem| stem == source.name)) else {
            tracing::debug!(template = source.name, directory = %directory.display(), "the directory lacks this template; the built-in one is used");
            continue;
        };
        let file = files.remove(at);
        let unreadable =
            |error| Error::BadInput(format!("`policy.prompts`: {} cannot be read: {error}; check its permissions", file.display()));
        source.text = Cow::Owned(std::fs::read_to_string(&file).map_err(unreadable)?);
        source.file = Some(file);
    }
    match files.first() {
        None => Ok(sources),
        Some(file) => Err(Error::BadInput(format!(
            "`policy.prompts`: {} is the name of no prompt template; rename it to {}, or remove it",
            file.display(),
            sources.iter().map(|source| format!("{}.{EXTENSION}", source.name)).collect::<Vec<_>>().join(" or ")
        ))),
    }
}

/// Lists the template files of a directory, sorted by name.
fn template_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error: std::io::Error| {
        let fix = "give a directory with prompt templates, or null for the built-in ones";
        Error::BadInput(format!("`policy.prompts`: the directory {} cannot be read: {error}; {fix}", directory.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Compiles templates.
///
/// # Errors
/// A template does not compile.
pub(crate) fn compile(sources: &[TemplateSource]) -> Result<Environment<'static>> {
    let mut templates = Environment::new();
    templates.set_trim_blocks(true);
    templates.set_lstrip_blocks(true);
    for source in sources {
        templates.add_template_owned(source.name, source.text.clone()).map_err(|error| source.broken(&error))?;
    }
    Ok(templates)
}

/// Joins the texts of templates, which identify prompts by their hash.
pub(crate) fn joined_texts(sources: &[TemplateSource]) -> String {
    sources.iter().map(|source| source.text.as_ref()).collect()
}
