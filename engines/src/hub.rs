//! Models on the Hugging Face hub: finds their files in the hub's cache on this machine, and downloads those that are not there.
//!
//! The cache is that of `huggingface_hub` and hf-hub: `models--OWNER--NAME/refs/main` names a commit, and `snapshots/COMMIT/` has the files
//! of that commit as links to their contents.

use std::path::{Path, PathBuf};

use milepost_runtime::Result;

use crate::failed;

/// The files from which mistralrs takes a tokenizer; one of them is needed.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "tekken.json"];
/// The files from which mistralrs takes a chat template; one of them is needed.
const CHAT_TEMPLATES: [&str; 3] = ["chat_template.jinja", "tokenizer_config.json", "chat_template.json"];
/// The ending of the names of files with weights.
const WEIGHTS: &str = ".safetensors";

/// Returns the directory with the files of a hub id's newest commit in the cache, and downloads them first if they are not complete there.
pub(crate) fn snapshot(id: &str) -> Result<PathBuf> {
    let cache =
        cache_directory().ok_or_else(|| failed("the home directory is unknown; set HF_HOME to the directory of the hub's cache"))?;
    snapshot_in(&cache, id, || download(&cache, id))
}

/// Does the work of [`snapshot`] in this cache; `download` is called if the files are not complete there.
fn snapshot_in(cache: &Path, id: &str, download: impl FnOnce() -> Result<(), String>) -> Result<PathBuf> {
    let absent = match cached(cache, id) {
        Ok(snapshot) => return Ok(snapshot),
        Err(absent) => absent,
    };
    download().and_then(|()| cached(cache, id)).map_err(|reason| {
        failed(format!(
            "model: {id} is not in the hub's cache {} ({absent}) and cannot be downloaded: {reason}; check the id and the network, set HF_TOKEN if the \
             model needs a login, fetch it with `hf download {id}`, or give a directory of safetensors",
            cache.display()
        ))
    })
}

/// Returns the directory of the hub's cache, in the same order of precedence as mistralrs: `HF_HUB_CACHE`, `HF_HOME`, the home directory.
fn cache_directory() -> Option<PathBuf> {
    std::env::var_os("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home_directory()?.join("hub")))
}

/// Returns the directory of everything that the hub's tools keep on this machine.
fn home_directory() -> Option<PathBuf> {
    std::env::var_os("HF_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface")))
}

/// Returns the directory of a hub id in the cache.
fn repository(cache: &Path, id: &str) -> PathBuf {
    cache.join(format!("models--{}", id.replace('/', "--")))
}

/// Returns the snapshot of a hub id's newest commit in the cache; the error says that it was never downloaded, or names a missing file.
fn cached(cache: &Path, id: &str) -> Result<PathBuf, String> {
    let repository = repository(cache, id);
    let commit = std::fs::read_to_string(repository.join("refs/main")).map_err(|_| "it was never downloaded".to_owned())?;
    let snapshot = repository.join("snapshots").join(commit.trim());
    match missing_file(&snapshot) {
        None => Ok(snapshot),
        Some(missing) => Err(format!("{missing} is missing in {}", snapshot.display())),
    }
}

/// Names a file that a snapshot needs and does not have.
fn missing_file(snapshot: &Path) -> Option<String> {
    let has = |name: &&str| snapshot.join(name).is_file();
    if !has(&"config.json") {
        return Some("config.json".into());
    }
    for alternatives in [TOKENIZERS.as_slice(), &CHAT_TEMPLATES] {
        if !alternatives.iter().any(has) {
            return Some(alternatives.join(" or "));
        }
    }
    // A link whose content is gone is not a file.
    let names = std::fs::read_dir(snapshot).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let weights: Vec<String> = names.filter(|name| name.ends_with(WEIGHTS)).collect();
    if weights.is_empty() {
        return Some("model.safetensors (or model-00001-of-….safetensors)".into());
    }
    weights.iter().flat_map(|name| parts(name)).find(|name| !has(&name.as_str()))
}

/// Returns the names of all parts of the weights to which a file belongs: `model-00001-of-00003.safetensors` is one of three.
fn parts(name: &str) -> Vec<String> {
    let part = name.strip_suffix(WEIGHTS).and_then(|stem| {
        let (stem, total) = stem.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        let count: u16 = total.parse().ok()?;
        Some((stem, number.len(), total, count))
    });
    match part {
        None => vec![name.to_owned()],
        Some((stem, width, total, count)) => (1..=count).map(|number| format!("{stem}-{number:0width$}-of-{total}{WEIGHTS}")).collect(),
    }
}

/// Downloads the files of a hub id's newest commit that are not in the cache yet, from `HF_ENDPOINT` or huggingface.co.
#[cfg(feature = "mistralrs")]
fn download(cache: &Path, id: &str) -> Result<(), String> {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".into());
    download_from(&endpoint, cache, id, token())
}

/// Only mistralrs serves a model from the hub.
#[cfg(not(feature = "mistralrs"))]
fn download(_: &Path, _: &str) -> Result<(), String> {
    Err("this build lacks mistralrs, which serves models from the hub (`cargo build --features mistralrs`)".into())
}

/// Returns the access token for the hub, from the places where mistralrs looks for it.
#[cfg(feature = "mistralrs")]
fn token() -> Option<String> {
    let variable = std::env::var("HF_TOKEN").or_else(|_| std::env::var("HF_HUB_TOKEN")).ok();
    let token = variable.or_else(|| std::fs::read_to_string(home_directory()?.join("token")).ok())?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Downloads the files of a hub id's newest commit that are not in the cache yet. `refs/main` names the commit only when all its files are
/// there, so that an interrupted download never leaves a half model under it.
#[cfg(feature = "mistralrs")]
fn download_from(endpoint: &str, cache: &Path, id: &str, token: Option<String>) -> Result<(), String> {
    use hf_hub::api::sync::{ApiBuilder, ApiError};
    use hf_hub::{Cache, Repo, RepoType};

    let said = |error: ApiError| error.to_string();
    let hub = Cache::new(cache.to_owned());
    let api = ApiBuilder::from_cache(hub.clone()).with_endpoint(endpoint.to_owned()).with_token(token).build().map_err(said)?;
    let info = api.model(id.to_owned()).info().map_err(said)?;
    let snapshot = repository(cache, id).join("snapshots").join(&info.sha);
    let commit = api.repo(Repo::with_revision(id.to_owned(), RepoType::Model, info.sha.clone()));
    let names = info.siblings.iter().map(|file| file.rfilename.as_str());
    for name in names.filter(|name| is_wanted(name) && !snapshot.join(name).is_file()) {
        tracing::info!(model = id, file = name, "a file of the model is downloaded from the hub");
        commit.download(name).map_err(said)?;
    }
    hub.model(id.to_owned()).create_ref(&info.sha).map_err(|error| error.to_string())
}

/// Returns whether a file of a repository belongs to the model as mistralrs loads it: weights, configuration, tokenizer and chat template,
/// all of which are at the top.
#[cfg(feature = "mistralrs")]
fn is_wanted(name: &str) -> bool {
    !name.contains('/') && [WEIGHTS, ".json", ".jinja"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "acme/tiny-1.5";
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const FILES: [&str; 5] =
        ["config.json", "tokenizer.json", "tokenizer_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

    /// Lays a cache out as the hub's tools do: the contents in `blobs`, and links to them in the snapshot.
    fn lay_out(cache: &Path, files: &[&str]) -> PathBuf {
        let repository = cache.join("models--acme--tiny-1.5");
        let snapshot = repository.join("snapshots").join(COMMIT);
        for directory in ["refs", "blobs", &format!("snapshots/{COMMIT}")] {
            std::fs::create_dir_all(repository.join(directory)).unwrap();
        }
        std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
        for name in files {
            std::fs::write(repository.join("blobs").join(name), format!("contents of {name}")).unwrap();
            std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
        }
        snapshot
    }

    fn offline() -> Result<(), String> {
        Err("there is no network".into())
    }

    #[test]
    fn a_complete_snapshot_needs_no_network() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = lay_out(cache.path(), &FILES);
        assert_eq!(snapshot_in(cache.path(), ID, || panic!("nothing is missing")).unwrap(), snapshot);
    }

    #[test]
    fn the_same_files_in_a_directory_and_in_the_cache_have_the_same_hash() {
        use crate::config::LocalModelConfig;
        use crate::identity::hash_base;
        use crate::source::Source;

        let (cache, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let snapshot = lay_out(cache.path(), &FILES);
        for name in FILES {
            std::fs::copy(snapshot.join(name), directory.path().join(name)).unwrap();
        }
        let hash = |source| hash_base(&source, &LocalModelConfig::default()).unwrap();
        let hub = || hash(Source::Hub { id: ID.into(), snapshot: snapshot.clone() });
        let before = hub();
        assert_eq!(before, hash(Source::Directory(directory.path().into())));
        std::fs::write(cache.path().join("models--acme--tiny-1.5/blobs").join(FILES[4]), "other contents").unwrap();
        assert_ne!(before, hub());
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        for (absent, says) in [
            (0, "config.json is missing"),
            (1, "tokenizer.json or tekken.json is missing"),
            (2, "chat_template.jinja or tokenizer_config.json or chat_template.json is missing"),
            (3, "model-00001-of-00002.safetensors is missing"),
        ] {
            let cache = tempfile::tempdir().unwrap();
            let snapshot = lay_out(cache.path(), &FILES);
            // The content is gone, and the link is still there.
            std::fs::remove_file(cache.path().join("models--acme--tiny-1.5/blobs").join(FILES[absent])).unwrap();
            let error = snapshot_in(cache.path(), ID, offline).unwrap_err().to_string();
            let words = [ID, says, &snapshot.display().to_string(), "there is no network", "hf download acme/tiny-1.5", "HF_TOKEN"];
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let error = snapshot_in(&PathBuf::from("/nowhere"), ID, offline).unwrap_err().to_string();
        assert!(error.contains("it was never downloaded") && error.contains("/nowhere"), "{error}");
        let cache = tempfile::tempdir().unwrap();
        lay_out(cache.path(), &FILES[..3]);
        let error = snapshot_in(cache.path(), ID, offline).unwrap_err().to_string();
        assert!(error.contains("model.safetensors (or model-00001-of-….safetensors) is missing"), "{error}");
    }

    #[cfg(feature = "mistralrs")]
    mod download {
        use serde_json::json;
        use tokio::task::spawn_blocking;
        use wiremock::matchers::{header, method, path};
        use wiremock::{Mock, MockServer, ResponseTemplate};

        use super::*;

        /// Starts a server that answers as the hub does for one repository with these files.
        async fn hub(files: &[&str]) -> MockServer {
            let server = MockServer::start().await;
            let siblings: Vec<_> = files.iter().map(|name| json!({ "rfilename": name })).collect();
            let info = ResponseTemplate::new(200).set_body_json(json!({ "sha": COMMIT, "siblings": siblings }));
            Mock::given(method("GET")).and(path(format!("/api/models/{ID}/revision/main"))).respond_with(info).mount(&server).await;
            for name in files {
                let body = format!("contents of {name}");
                let answer = ResponseTemplate::new(200)
                    .insert_header("etag", format!("\"etag-{name}\"").as_str())
                    .insert_header("x-repo-commit", COMMIT)
                    .insert_header("content-range", format!("bytes 0-0/{}", body.len()).as_str())
                    .set_body_string(body);
                let file = Mock::given(path(format!("/{ID}/resolve/{COMMIT}/{name}"))).and(header("authorization", "Bearer secret"));
                file.respond_with(answer).mount(&server).await;
            }
            server
        }

        /// Asks for the snapshot, and downloads it from this server if it is not complete.
        async fn fetch(server: &MockServer, cache: &Path) -> Result<PathBuf> {
            let (endpoint, cache) = (server.uri(), cache.to_owned());
            let fetch = move || snapshot_in(&cache, ID, || download_from(&endpoint, &cache, ID, Some("secret".into())));
            spawn_blocking(fetch).await.unwrap()
        }

        async fn requests(server: &MockServer) -> usize {
            server.received_requests().await.unwrap().len()
        }

        #[tokio::test]
        async fn a_model_is_downloaded_once_and_whole() {
            let unwanted = ["README.md", "onnx/model.safetensors", "pytorch_model.bin"];
            let server = hub(&[FILES.as_slice(), &unwanted].concat()).await;
            let cache = tempfile::tempdir().unwrap();
            let snapshot = fetch(&server, cache.path()).await.unwrap();
            let mut names: Vec<String> =
                std::fs::read_dir(&snapshot).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            let mut wanted = FILES;
            wanted.sort_unstable();
            assert_eq!(names, wanted);
            for name in FILES {
                assert_eq!(std::fs::read_to_string(snapshot.join(name)).unwrap(), format!("contents of {name}"));
            }
            let asked = requests(&server).await;
            assert_eq!((fetch(&server, cache.path()).await.unwrap(), requests(&server).await), (snapshot, asked));
        }

        #[tokio::test]
        async fn only_missing_files_are_downloaded() {
            let server = hub(&FILES).await;
            let cache = tempfile::tempdir().unwrap();
            lay_out(cache.path(), &FILES[..4]);
            fetch(&server, cache.path()).await.unwrap();
            let asked = server.received_requests().await.unwrap();
            let files: Vec<&str> =
                asked.iter().filter_map(|request| request.url.path().rsplit_once("/resolve/").map(|(_, file)| file)).collect();
            assert!(!files.is_empty() && files.iter().all(|file| file.ends_with(FILES[4])), "{files:?}");
        }

        #[tokio::test]
        async fn a_download_that_breaks_off_leaves_no_half_model() {
            let server = hub(&FILES).await;
            let gone = Mock::given(path(format!("/{ID}/resolve/{COMMIT}/{}", FILES[4]))).respond_with(ResponseTemplate::new(503));
            gone.up_to_n_times(1).with_priority(1).mount(&server).await;
            let cache = tempfile::tempdir().unwrap();
            let error = fetch(&server, cache.path()).await.unwrap_err().to_string();
            assert!(error.contains("503") && error.contains("it was never downloaded"), "{error}");
            assert!(!cache.path().join("models--acme--tiny-1.5/refs/main").exists());
            fetch(&server, cache.path()).await.unwrap();
        }

        #[tokio::test]
        async fn a_model_that_the_hub_does_not_have_is_named() {
            let server = MockServer::start().await;
            let error = fetch(&server, tempfile::tempdir().unwrap().path()).await.unwrap_err().to_string();
            assert!(error.contains("404") && error.contains(ID) && error.contains("check the id"), "{error}");
        }
    }
}
