//! The page in real Chromium: by keyboard alone, narrow and wide, light and dark, with hostile words, and nothing from elsewhere.

use milepost_suites::template;
use serde_json::json;

use super::chromium::{Chromium, END, ENTER, LEFT, RIGHT};
use super::harness::Daemon;

const SCREENSHOTS: (&str, &str) = ("MILEPOST_EPISODES__SCREENSHOTS", "all");
const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\"></title><script>document.title='owned'</script>{{ 7*7 }}' \"";

/// Signs in by keyboard, as whoever opens the page does.
async fn sign_in(browser: &Chromium, daemon: &Daemon) {
    browser.open(&daemon.address).await;
    browser.until("document.activeElement?.id === 'token'").await;
    browser.press(&format!("{}{ENTER}", daemon.token)).await;
    browser.until("document.querySelector('h1')?.innerText === 'Tasks'").await;
}

async fn check_fits(browser: &Chromium, what: &str) {
    for width in [375, 1280] {
        browser.screen(width, 800).await;
        let wide = browser.eval("document.documentElement.scrollWidth").await.as_u64().unwrap();
        assert!(wide <= u64::from(width), "{what} is {wide} wide on a screen of {width}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_from_its_form_to_its_replay_by_keyboard_alone() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[SCREENSHOTS]);
    let instance = template("shop_price").unwrap().instantiate(10_000);
    let site = instance.serve().await.unwrap();
    let mut browser = Chromium::start(directory.path()).await;
    sign_in(&browser, &daemon).await;
    check_fits(&browser, "the list of tasks").await;

    browser.press(super::chromium::TAB).await;
    assert_eq!(browser.text(".skip").await, "Skip to the content");
    assert_eq!(browser.eval("document.activeElement.className").await, "skip", "the first stop skips the head");
    browser.tab_to("a[href='/tasks/new']").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#goal')").await;
    check_fits(&browser, "the form").await;
    browser.tab_to("#goal").await;
    browser.press(instance.goal()).await;
    browser.tab_to("#url").await;
    browser.press(site.url.as_str()).await;
    browser.tab_to("button.main").await;
    browser.press(ENTER).await;

    // From here on nothing is pressed and nothing reloaded: the page follows by itself.
    browser.until("document.querySelector('#log') && (window.mark = true)").await;
    browser.until("document.querySelectorAll('#plan li.done').length > 0").await;
    browser.until("document.querySelector('#standing .state-done')").await;
    browser.until("document.querySelector('#screen img')?.naturalWidth > 0").await;
    assert_eq!(browser.eval("window.mark").await, true, "the page was not loaded again");
    let log = browser.text("#log").await;
    assert!(log.contains("planned") && log.contains("milestone 1 reached") && log.contains("action 1:"), "{log}");
    assert!(instance.success(Some(&browser.text("#answer").await)), "{log}");
    check_fits(&browser, "a task").await;

    browser.tab_to("#yes").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#standing .good')?.innerText === 'done as asked'").await;
    browser.tab_to("#replay").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#at')?.innerText.startsWith('Action 1 of')").await;
    check_fits(&browser, "a replay").await;
    browser.until("document.querySelector('img')?.naturalWidth > 0").await;
    assert!(browser.text("pre").await.starts_with("page "), "the page as the model read it");
    browser.press(RIGHT).await;
    browser.until("document.querySelector('#at')?.innerText.startsWith('Action 2 of')").await;
    browser.until("document.querySelectorAll('.plan li.done').length > 0").await;
    browser.press(LEFT).await;
    browser.until("document.querySelector('#at')?.innerText.startsWith('Action 1 of')").await;
    browser.press(END).await;
    browser.until("document.querySelector('#at')?.innerText === 'The end'").await;

    browser.open(&format!("{}/adapters", daemon.address)).await;
    browser.until("document.querySelector('h1')?.innerText === 'Adapters'").await;
    check_fits(&browser, "the adapters").await;
    browser.tab_to("header button").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('h1')?.innerText === 'Sign in to Milepost'").await;
    check_fits(&browser, "the sign-in").await;

    let foreign: Vec<_> =
        browser.requests().await.iter().filter(|url| !url.starts_with(&daemon.address) && !url.starts_with("data:")).cloned().collect();
    assert!(browser.requests().await.len() > 10 && foreign.is_empty(), "asked for elsewhere: {foreign:?}");
    let complaints: Vec<_> = browser.complaints().await.into_iter().filter(|line| !line.contains("401")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_from_outside_stay_words_and_colours_follow_the_scheme() {
    let directory = tempfile::tempdir().unwrap();
    let title = format!("<title>{HOSTILE}</title><h1>{}</h1>", HOSTILE.replace('<', "&lt;"));
    let page = axum::Router::new().fallback(move || async move { axum::response::Html(title) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, page).await });
    let daemon = Daemon::start(directory.path(), &[]);
    let task = daemon.submit(HOSTILE, &site, json!({ "limits": { "max_steps": 2, "max_seconds": 60 } })).await;
    daemon.follow(&task, 0, |event| event.kind == "ended").await;
    let mut browser = Chromium::start(directory.path()).await;
    sign_in(&browser, &daemon).await;
    for address in ["".to_owned(), format!("/tasks/{task}"), format!("/tasks/{task}/replay"), format!("/tasks/{task}/replay?step=2")] {
        browser.open(&format!("{}/{}", daemon.address, address.trim_start_matches('/'))).await;
        browser.until("document.readyState === 'complete'").await;
        assert!(browser.text("body").await.contains(HOSTILE.trim_end_matches(" \"")), "{address}: {}", browser.text("body").await);
        let injected = browser.eval("document.querySelectorAll('main script, main img[src=x], title script').length").await;
        assert_eq!(injected, 0, "{address}");
        assert_ne!(browser.eval("document.title").await, "owned", "{address}");
        let mut colours = Vec::new();
        for scheme in ["light", "dark"] {
            browser.scheme(scheme).await;
            colours.push(browser.eval("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color").await);
        }
        assert_ne!(colours[0], colours[1], "{address} looks the same in the dark");
    }
    assert!(browser.requests().await.iter().all(|url| url.starts_with(&daemon.address) || url.starts_with("data:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_made_on_the_page_with_the_request_in_sight() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let asking = super::terminal::Asking::serve().await;
    let browser = Chromium::start(directory.path()).await;
    sign_in(&browser, &daemon).await;
    let task = daemon.submit(&asking.goal, &asking.url, asking.more.clone()).await;
    browser.until(&format!("document.getElementById('task-{task}')?.closest('li').querySelector('.state-needs_approval')")).await;
    browser.open(&format!("{}/tasks/{task}", daemon.address)).await;
    browser.until("document.querySelector('#decision img')?.naturalWidth > 0").await;
    let asked = browser.text("#decision").await;
    assert!(asked.contains("call fetch") && asked.contains("not among those this task may call"), "{asked}");
    browser.tab_to("#note").await;
    browser.press("this once").await;
    check_fits(&browser, "a decision").await;
    browser.tab_to("#approve").await;
    browser.press(ENTER).await;
    browser.until("!document.querySelector('#decision form')").await;
    browser.until("document.querySelector('#log').innerText.includes('approved: this once')").await;
    browser.until("document.querySelector('#standing .state-done')").await;
    assert_eq!(browser.eval("document.querySelectorAll('#plan li.done').length").await, 6, "it went on where it was");

    let cancelled = daemon.submit(&asking.goal, &asking.url, asking.more.clone()).await;
    browser.open(&format!("{}/tasks/{cancelled}", daemon.address)).await;
    browser.until("document.querySelector('#deny')").await;
    browser.tab_to("#cancel").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#standing .state-cancelled')").await;
}
