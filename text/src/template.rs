//! Chat templates, which render as in Hugging Face's `transformers`.

use std::path::Path;

use milepost_runtime::{Message, Speaker};
use minijinja::{Environment, ErrorKind, context};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::hash16;
use crate::tokenizer::{SEED_SPECIALS, Tokenizer};

/// The seed model's template. Each message is the speaker's token, the content and the end token; the model's answer begins right after the
/// assistant's token.
pub const SEED_TEMPLATE: &str = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}\
                                 {% if add_generation_prompt %}<|assistant|>{% endif %}";

/// A Jinja chat template with the model's special tokens.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Creates a template from its source and the texts of the model's BOS and EOS tokens.
    ///
    /// # Errors
    /// The source is not a Jinja template.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        // transformers' `_compile_jinja_template` sets these two as well.
        environment.set_lstrip_blocks(true);
        environment.set_trim_blocks(true);
        environment.add_function("raise_exception", |reason: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        });
        // A prompt must not depend on the date on which it is rendered, because recorded token ids have to be reproducible.
        environment.add_function("strftime_now", |_format: String| String::new());
        // minijinja has neither negative slices nor the tag that marks a training span.
        let body = source.replace("[::-1]", "|reverse").replace("{% generation %}", "").replace("{% endgeneration %}", "");
        environment.add_template_owned("chat", body).map_err(|error| Error::Template(error.to_string()))?;
        let text = |token: Option<&str>| token.unwrap_or_default().to_owned();
        Ok(Self { environment, source: source.to_owned(), bos: text(bos), eos: text(eos) })
    }

    /// Loads `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`, from a model directory.
    ///
    /// # Errors
    /// Neither exists, or it does not compile.
    pub fn load(dir: &Path) -> Result<Self> {
        let config_path = dir.join("tokenizer_config.json");
        let config = read_json(&config_path)?.unwrap_or(Value::Null);
        let jinja = dir.join("chat_template.jinja");
        let source = if jinja.is_file() {
            std::fs::read_to_string(&jinja).map_err(Error::io(&jinja))?
        } else {
            template_of(&config).ok_or_else(|| Error::Missing {
                path: jinja,
                fix: format!("and {} has no chat_template; put the model's chat template in either file", config_path.display()),
            })?
        };
        Self::new(&source, token_text(&config["bos_token"]).as_deref(), token_text(&config["eos_token"]).as_deref())
    }

    /// Renders a chat; with `add_generation_prompt` the model's turn is opened.
    ///
    /// # Errors
    /// The template refuses the messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Value> =
            messages.iter().map(|message| json!({ "role": speaker_word(message.role), "content": message.content })).collect();
        let failed = |error: minijinja::Error| Error::Template(error.to_string());
        let template = self.environment.get_template("chat").map_err(failed)?;
        let values = context! {
            messages, add_generation_prompt, bos_token => self.bos, eos_token => self.eos, enable_thinking => false,
        };
        template.render(values).map_err(failed)
    }

    /// Returns the text of the EOS token, if the configuration names one.
    pub fn eos(&self) -> Option<&str> {
        Some(self.eos.as_str()).filter(|eos| !eos.is_empty())
    }

    /// Returns the hash of the template and its special tokens, 16 hex digits.
    pub fn hash(&self) -> String {
        hash16(format!("{}\0{}\0{}", self.source, self.bos, self.eos).as_bytes())
    }
}

fn speaker_word(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::System => "system",
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    }
}

/// Reads `chat_template`, which is a text or a list of named templates.
fn template_of(config: &Value) -> Option<String> {
    match &config["chat_template"] {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default").or(named.first())?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// Reads a special token, which is a text or an object with the text in `content`.
pub(crate) fn token_text(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}

/// Reads the JSON in a file; `None` if the file does not exist.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| Error::malformed(path, format!("it is no JSON: {error}")))
}

/// Writes `tokenizer_config.json` and `generation_config.json` of the seed model: its template, end and padding tokens.
///
/// # Errors
/// The tokenizer lacks the seed model's special tokens, or the directory cannot be written.
pub fn write_seed_template(dir: &Path, tokenizer: &Tokenizer) -> Result<()> {
    let id = |token: &str| {
        let path = dir.join("tokenizer.json");
        tokenizer.token_id(token).ok_or_else(|| Error::malformed(&path, format!("it has no token {token}; train it with SEED_SPECIALS")))
    };
    let [end, pad, ..] = SEED_SPECIALS;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": SEED_TEMPLATE, "eos_token": end, "pad_token": pad,
        "add_bos_token": false, "clean_up_tokenization_spaces": false,
    });
    let generation = json!({ "eos_token_id": id(end)?, "pad_token_id": id(pad)? });
    for (name, value) in [("tokenizer_config.json", config), ("generation_config.json", generation)] {
        let path = dir.join(name);
        std::fs::write(&path, format!("{value:#}\n")).map_err(Error::io(&path))?;
    }
    Ok(())
}
