//! Tests of the browser environment with real Chromium and small pages served on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pages;
mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use milepost_runtime::{Action, Environment, Observation, Outcome, Secrets, State, Tool};
use milepost_tools::browser::{BrowserConfig, BrowserEnvironment, diagnose};
use milepost_tools::fetch::FetchTool;
use pages::Site;

/// A browser with a site and a state directory of its own.
struct Fixture {
    site: Site,
    state: tempfile::TempDir,
    browser: BrowserEnvironment,
}

fn config(state: &Path) -> BrowserConfig {
    // SAFETY: geteuid takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    BrowserConfig { no_sandbox: root, state_dir: Some(state.to_owned()), read_ms: 5_000, ..BrowserConfig::default() }
}

impl Fixture {
    async fn with(change: impl FnOnce(&mut BrowserConfig), secrets: impl FnOnce(&Site) -> Secrets) -> Self {
        let (site, state) = (Site::serve().await, tempfile::tempdir().unwrap());
        let mut config = config(state.path());
        change(&mut config);
        let browser = BrowserEnvironment::launch(&config, secrets(&site)).await.unwrap();
        Self { site, state, browser }
    }

    async fn new() -> Self {
        Self::with(|_| {}, |_| Secrets::default()).await
    }

    async fn open(&mut self, path: &str) -> Observation {
        self.browser.reset(&self.site.task(path)).await.unwrap();
        self.browser.observe().await.unwrap()
    }

    async fn act(&mut self, line: &str) -> Outcome {
        self.browser.act(&Action::parse(line).unwrap()).await.unwrap()
    }

    /// Carries out an action, which must succeed, and observes the page.
    async fn step(&mut self, line: &str) -> Observation {
        let outcome = self.act(line).await;
        assert!(outcome.ok, "{line}: {outcome:?}");
        self.browser.observe().await.unwrap()
    }
}

fn id(page: &Observation, role: &str, name: &str) -> u32 {
    page.find(role, name).unwrap_or_else(|| panic!("no {role} {name:?} in:\n{}", page.render(200))).id
}

fn golden(page: &Observation) -> String {
    let mut lines = vec![page.title.clone(), page.path().to_owned(), String::new(), page.text.clone(), String::new()];
    for element in &page.elements {
        let mut line = element.line();
        if !element.options.is_empty() {
            line.push_str(&format!(" options {:?}", element.options));
        }
        if !element.frame.is_empty() {
            line.push_str(&format!(" frame {:?}", element.frame));
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_every_kind_of_control() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/controls").await;
    insta::assert_snapshot!("controls", golden(&page));
    assert!(page.changed && !page.truncated);
    let again = fixture.browser.observe().await.unwrap();
    assert_eq!(golden(&again), golden(&page), "ids stay while the elements live");
    assert!(!again.changed);
    assert!(page.elements.iter().all(|element| element.rect.is_some_and(|rect| rect.width > 0.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_budget_on_a_large_page() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/large").await;
    assert!(page.truncated);
    assert_eq!(page.elements.len(), 400);
    assert!(page.text.chars().count() <= 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_too_long_to_read_is_its_beginning() {
    let whole = Fixture::new().await.open("/controls").await;
    let part = Fixture::with(|config| config.read_ms = 0, |_| Secrets::default()).await.open("/controls").await;
    assert!(part.truncated && !part.elements.is_empty() && part.elements.len() < whole.elements.len(), "{part:?}");
    let names = |page: &Observation| page.elements.iter().map(|element| (element.role.clone(), element.name.clone())).collect::<Vec<_>>();
    assert!(names(&whole).starts_with(&names(&part)), "{part:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn carries_out_every_action() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/form").await;
    let (name, due, colour) = (id(&page, "textbox", "Name"), id(&page, "textbox", "Due"), id(&page, "combobox", "Colour"));
    fixture.step(&format!("type {name} \"Ana\"")).await;
    fixture.step(&format!("type {name} \"Ana Li\"")).await;
    fixture.step(&format!("type {due} \"2024-12-31\"")).await;
    fixture.step(&format!("type {} \"rich\"", id(&page, "textbox", "Notes"))).await;
    let page = fixture.step(&format!("select {colour} \"Dark blue\"")).await;
    assert!(page.changed);
    assert_eq!(page.element(name).unwrap().value.as_deref(), Some("Ana Li"));
    assert_eq!(page.element(due).unwrap().value.as_deref(), Some("2024-12-31"));
    assert_eq!(page.element(colour).unwrap().value.as_deref(), Some("Dark blue"));
    assert_eq!(page.find("textbox", "Notes").unwrap().value.as_deref(), Some("rich"));
    assert!(page.text.contains("changed: name name due colour"), "{}", page.text);
    let page = fixture.step(&format!("click {}", id(&page, "checkbox", "Agree"))).await;
    assert!(page.find("checkbox", "Agree").unwrap().is(State::Checked));
    fixture.step(&format!("click {name}")).await;
    let page = fixture.step("press Enter").await;
    assert!(page.path().starts_with("/echo?name=Ana+Li&due=2024-12-31&colour=navy&agree=on"), "{}", page.url);
    let page = fixture.step("back").await;
    assert_eq!(page.path(), "/form");
    assert!(!fixture.act("back").await.ok, "the history begins at the start page");
    let page = fixture.step("goto \"/echo?x=1\"").await;
    assert_eq!(page.path(), "/echo?x=1");
    assert_eq!(
        fixture.act("goto \"file:///etc/passwd\"").await.error.unwrap(),
        "invalid: \"file:///etc/passwd\" is no http or https address"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(fixture.act(&format!("goto \"http://{closed}/\"")).await.error.unwrap().contains("cannot be opened"));
    assert_eq!(fixture.browser.observe().await.unwrap().url, format!("http://{closed}/"));
    let home = fixture.site.url("/form");
    fixture.step(&format!("goto \"{home}\"")).await;
    assert!(fixture.browser.screenshot().await.unwrap().unwrap().starts_with(b"\x89PNG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn works_in_frames_shadow_roots_and_on_listeners() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/controls").await;
    let page = fixture.step(&format!("click {}", id(&page, "button", "Framed button"))).await;
    let page = fixture.step(&format!("click {}", id(&page, "button", "Framed clicked"))).await;
    let page = fixture.step(&format!("click {}", id(&page, "button", "Shadow button"))).await;
    let page = fixture.step(&format!("click {}", id(&page, "button", "Shadow clicked"))).await;
    let page = fixture.step(&format!("click {}", id(&page, "button", "Listener only"))).await;
    assert!(page.find("button", "Listener clicked").is_some());
    let page = fixture.step(&format!("click {}", id(&page, "checkbox", "Styled box"))).await;
    assert!(page.find("checkbox", "Styled box").unwrap().is(State::Checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn scrolls_and_waits() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/late").await;
    assert!(!page.text.contains("at the bottom"));
    let page = fixture.step("scroll down").await;
    assert!(page.text.contains("scrolled"), "{}", page.text);
    fixture.step("scroll up").await;
    fixture.step(&format!("click {}", id(&page, "button", "Start"))).await;
    let page = fixture.step("wait").await;
    assert!(page.text.contains("it came late"), "{}", page.text);
    let page = fixture.step(&format!("click {}", id(&page, "button", "Leave soon"))).await;
    assert_eq!(page.path(), "/echo?left", "a navigation that a timer starts is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_cannot_be_done() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/covered").await;
    let begun = Instant::now();
    let outcome = fixture.act(&format!("click {}", id(&page, "button", "Under"))).await;
    let took = begun.elapsed();
    assert!(outcome.error.as_ref().unwrap().contains("is covered by div \"We use cookies"), "{outcome:?}");
    assert!(took < Duration::from_secs(10), "it is not clicked in vain until a command's time is over: {took:?}");
    let away = id(&page, "button", "Goes away");
    fixture.step(&format!("click {}", id(&page, "button", "Remove"))).await;
    assert_eq!(fixture.act(&format!("click {away}")).await.error.unwrap(), format!("invalid: there is no element {away} on the page"));
    assert_eq!(fixture.act("click 999").await.error.unwrap(), "invalid: there is no element 999 on the page");
    assert!(fixture.act(&format!("click {}", id(&page, "button", "Cannot"))).await.error.unwrap().ends_with("is disabled"));
    assert!(fixture.act(&format!("type {} \"x\"", id(&page, "button", "Remove"))).await.error.unwrap().starts_with("invalid:"));
    assert!(fixture.act("answer").await.error.unwrap().starts_with("invalid:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_answers_dialogs() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/dialog").await;
    let ask = id(&page, "button", "Ask");
    let page = fixture.step(&format!("click {ask}")).await;
    assert_eq!(page.dialog.as_deref(), Some("Really?"));
    assert!(page.elements.is_empty());
    assert!(!fixture.act(&format!("click {ask}")).await.ok);
    assert!(fixture.browser.screenshot().await.is_ok());
    let page = fixture.step("press Enter").await;
    assert!(page.text.contains("answer true") && page.dialog.is_none(), "{}", page.text);
    fixture.step(&format!("click {ask}")).await;
    let page = fixture.step("press Escape").await;
    assert!(page.text.contains("answer false"), "{}", page.text);
    fixture.step(&format!("click {ask}")).await;
    let page = fixture.open("/form").await;
    assert!(page.dialog.is_none(), "a reset leaves no dialog behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_new_tabs_and_forgets_between_episodes() {
    let mut fixture = Fixture::new().await;
    let page = fixture.open("/tabs").await;
    assert!(page.tabs.is_empty() && page.text.contains("cookies: none"), "{}", page.text);
    let page = fixture.step(&format!("click {}", id(&page, "link", "New tab"))).await;
    assert_eq!((page.path(), page.tabs.len()), ("/echo?tab", 2));
    let page = fixture.open("/tabs").await;
    assert!(page.tabs.is_empty() && page.text.contains("cookies: none"), "{}", page.text);
    assert!(!fixture.act("back").await.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_secrets_on_their_origin_only_and_never_shows_them() {
    let secrets = |site: &Site| {
        let mut secrets = Secrets::default();
        secrets.add("mail", "hunter2-mail", &site.url("/"));
        secrets.add("bank", "bank-password", &"https://bank.example/".parse().unwrap());
        secrets
    };
    let mut fixture = Fixture::with(|_| {}, secrets).await;
    let page = fixture.open("/form").await;
    let name = id(&page, "textbox", "Name");
    let page = fixture.step(&format!("type {name} \"{{{{secret:mail}}}}\"")).await;
    assert_eq!(page.element(name).unwrap().value.as_deref(), Some("{{secret:mail}}"));
    let page = fixture.step("press Backspace").await;
    assert_eq!(page.element(name).unwrap().value.as_deref(), Some("{{secret:mail}}"), "not what the key left of it");
    assert!(fixture.browser.screenshot().await.unwrap().is_some());
    let short = fixture.act(&format!("type {} \"{{{{secret:mail}}}}\"", id(&page, "textbox", "Short"))).await.error.unwrap();
    assert!(short.ends_with("takes at most 4 characters, fewer than the secret has"), "{short}");
    fixture.step(&format!("type {name} \"{{{{secret:mail}}}}\"")).await;
    let refused = fixture.act(&format!("type {name} \"{{{{secret:bank}}}}\"")).await.error.unwrap();
    assert!(refused.contains("bound to https://bank.example") && !refused.contains("bank-password"), "{refused}");
    fixture.act(&format!("click {name}")).await;
    let page = fixture.step("press Enter").await;
    assert!(page.url.contains("name={{secret:mail}}") && !page.text.contains("hunter2"), "{}\n{}", page.url, page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for_only_so_long() {
    let mut fixture = Fixture::with(|config| config.page_load_timeout_ms = 2_000, |_| Secrets::default()).await;
    fixture.open("/form").await;
    let outcome = fixture.act("goto \"/never\"").await;
    assert!(outcome.error.unwrap().contains("did not load in time"));
    assert_eq!(fixture.step("goto \"/echo?after\"").await.path(), "/echo?after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_profile_is_there_in_the_next_browser() {
    let profile = tempfile::tempdir().unwrap();
    let keep = |config: &mut BrowserConfig| config.profile = Some(profile.path().to_owned());
    let mut fixture = Fixture::with(keep, |_| Secrets::default()).await;
    assert!(fixture.open("/tabs").await.text.contains("cookies: none"));
    fixture.browser.close().await.unwrap();
    fixture.browser = BrowserEnvironment::launch(
        &BrowserConfig { profile: Some(profile.path().to_owned()), ..config(fixture.state.path()) },
        Secrets::default(),
    )
    .await
    .unwrap();
    assert!(fixture.open("/tabs").await.text.contains("cookies: kept"), "storage of the one before");
    drop(fixture.browser);
    assert!(profile.path().join("chromium").is_dir() && std::fs::read_dir(fixture.state.path()).unwrap().count() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_missing_and_how_to_mend_it() {
    let state = tempfile::tempdir().unwrap();
    let good = config(state.path());
    assert!(diagnose(&good).iter().all(|finding| finding.ok), "{:?}", diagnose(&good));
    let script = state.path().join("chromium");
    std::fs::write(&script, "#!/bin/sh\necho Chromium 12.0.1\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let old = BrowserConfig { chromium: Some(script.clone()), ..good.clone() };
    let error = BrowserEnvironment::launch(&old, Secrets::default()).await.unwrap_err().to_string();
    assert!(error.contains(script.to_str().unwrap()) && error.contains("12.0.1") && error.contains("major versions"), "{error}");
    let finding = diagnose(&old).into_iter().find(|finding| !finding.ok).unwrap();
    assert!(finding.fix.contains("browser.chromedriver"), "{finding:?}");
    let absent = BrowserConfig { chromium: Some("/nowhere/chromium".into()), ..good.clone() };
    assert!(BrowserEnvironment::launch(&absent, Secrets::default()).await.unwrap_err().to_string().contains("/nowhere/chromium"));
    if good.no_sandbox {
        let sandboxed = BrowserConfig { no_sandbox: false, ..good };
        let error = BrowserEnvironment::launch(&sandboxed, Secrets::default()).await.unwrap_err();
        assert!(error.to_string().contains("browser.no_sandbox"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_within_the_capability() {
    let site = Site::serve().await;
    let (tool, mut task) = (FetchTool::new(None).unwrap(), site.task("/form"));
    let elsewhere = format!("localhost:{}", site.url("/").port().unwrap());
    task.capability.hosts.push(elsewhere.clone());
    let get = async |url: &str| tool.call(&serde_json::json!({ "url": url }), &task).await.map_err(|error| error.to_string());
    assert_eq!(get("/data.json").await.unwrap(), r#"{"b":1,"a":[1,2]}"#);
    assert!(get("/echo?fetched").await.unwrap().contains("page /echo?fetched"));
    assert!(get("/redirect").await.unwrap().contains("page /echo?redirected"));
    let told = get("/elsewhere").await.unwrap_err();
    assert!(told.contains(&format!("http://{elsewhere}/data.json on another host")), "{told}");
    assert!(get("/escape").await.unwrap_err().contains("outside the hosts"));
    assert!(get("http://example.org/").await.unwrap_err().contains("outside the hosts"));
    assert!(get("/large").await.unwrap_err().contains("larger than"));
    assert!(get("/missing").await.unwrap_err().contains("404"));
}

/// Prints the median time of a click and the observation after it.
#[tokio::test(flavor = "multi_thread")]
async fn forty_pages_are_clicked_through() {
    let mut fixture = Fixture::new().await;
    let mut page = fixture.open("/chain?0").await;
    let mut times = Vec::new();
    for turn in 1..=40 {
        let begun = Instant::now();
        page = fixture.step(&format!("click {}", id(&page, "link", "onward"))).await;
        times.push(begun.elapsed());
        assert_eq!(page.path(), format!("/chain?{turn}"));
    }
    times.sort_unstable();
    println!("observe and click through to a new page: median {:?}, most {:?}", times[20], times[39]);
}
