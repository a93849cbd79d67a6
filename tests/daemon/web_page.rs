//! The daemon's web page in real Chromium: used with the keyboard alone, on narrow and wide screens, in light and dark colors, with hostile
//! text; it requests nothing from other hosts.

use milepost_suites::{Instance, template};
use serde_json::json;

use super::chromium::{Chromium, END, ENTER, LEFT, RIGHT, TAB};
use super::client_command::TaskNeedingApproval;
use super::harness::Daemon;

/// The setting that keeps a screenshot of each step.
const SCREENSHOTS: (&str, &str) = ("MILEPOST_EPISODES__SCREENSHOTS", "all");
/// A text that would change the title of a page that does not escape it.
const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\"></title><script>document.title='owned'</script>{{ 7*7 }}' \"";

/// Opens the page and signs in with the keyboard.
async fn sign_in(browser: &Chromium, daemon: &Daemon) {
    browser.open(&daemon.address).await;
    browser.wait_until("document.activeElement?.id === 'token'").await;
    browser.press(&format!("{}{ENTER}", daemon.token)).await;
    browser.wait_until("document.querySelector('h1')?.innerText === 'Tasks'").await;
}

/// Checks that the page is no wider than the screen, on a phone and on a desktop.
async fn check_width(browser: &Chromium, page: &str) {
    for width in [375, 1280] {
        browser.set_screen_size(width, 800).await;
        let page_width = browser.eval("document.documentElement.scrollWidth").await.as_u64().unwrap();
        assert!(page_width <= u64::from(width), "{page} is {page_width} pixels wide on a screen of {width}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_followed_and_replayed_with_the_keyboard_alone() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[SCREENSHOTS]);
    let instance = template("shop_price").unwrap().instantiate(10_000);
    let site = instance.serve().await.unwrap();
    let mut browser = Chromium::start(directory.path()).await;
    sign_in(&browser, &daemon).await;
    check_width(&browser, "the list of tasks").await;

    submit_with_the_form(&browser, instance.goal(), site.url.as_str()).await;
    check_followed_task(&browser, &instance).await;
    check_replay(&browser).await;

    browser.open(&format!("{}/adapters", daemon.address)).await;
    browser.wait_until("document.querySelector('h1')?.innerText === 'Adapters'").await;
    check_width(&browser, "the list of adapters").await;
    browser.tab_to("header button").await;
    browser.press(ENTER).await;
    browser.wait_until("document.querySelector('h1')?.innerText === 'Sign in to Milepost'").await;
    check_width(&browser, "the sign-in form").await;

    let is_foreign = |url: &&String| !url.starts_with(&daemon.address) && !url.starts_with("data:");
    let foreign: Vec<_> = browser.requested_urls().await.iter().filter(is_foreign).cloned().collect();
    assert!(browser.requested_urls().await.len() > 10 && foreign.is_empty(), "requested from other hosts: {foreign:?}");
    let errors: Vec<_> = browser.console_errors().await.into_iter().filter(|line| !line.contains("401")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Submits a task with the form that the list of tasks links to.
async fn submit_with_the_form(browser: &Chromium, goal: &str, url: &str) {
    browser.press(TAB).await;
    assert_eq!(browser.text(".skip").await, "Skip to the content");
    assert_eq!(browser.eval("document.activeElement.className").await, "skip", "the first link skips the header");
    browser.tab_to("a[href='/tasks/new']").await;
    browser.press(ENTER).await;
    browser.wait_until("document.querySelector('#goal')").await;
    check_width(browser, "the form").await;
    browser.tab_to("#goal").await;
    browser.press(goal).await;
    browser.tab_to("#url").await;
    browser.press(url).await;
    browser.tab_to("button.main").await;
    browser.press(ENTER).await;
}

/// Checks that the page of a running task is updated without a key press and without being loaded again, up to the task's end, and confirms
/// its success.
async fn check_followed_task(browser: &Chromium, instance: &Instance) {
    browser.wait_until("document.querySelector('#log') && (window.mark = true)").await;
    browser.wait_until("document.querySelectorAll('#plan li.done').length > 0").await;
    browser.wait_until("document.querySelector('#standing .state-done')").await;
    browser.wait_until("document.querySelector('#screen img')?.naturalWidth > 0").await;
    assert_eq!(browser.eval("window.mark").await, true, "the page was loaded again");
    let log = browser.text("#log").await;
    assert!(log.contains("planned") && log.contains("milestone 1 reached") && log.contains("action 1:"), "{log}");
    assert!(instance.success(Some(&browser.text("#answer").await)), "{log}");
    check_width(browser, "a task").await;
    browser.tab_to("#yes").await;
    browser.press(ENTER).await;
    browser.wait_until("document.querySelector('#standing .good')?.innerText === 'done as asked'").await;
}

/// Opens the replay of the task on the page, and checks the keys that go through its actions.
async fn check_replay(browser: &Chromium) {
    browser.tab_to("#replay").await;
    browser.press(ENTER).await;
    browser.wait_until("document.querySelector('#at')?.innerText.startsWith('Action 1 of')").await;
    check_width(browser, "a replay").await;
    browser.wait_until("document.querySelector('img')?.naturalWidth > 0").await;
    assert!(browser.text("pre").await.starts_with("page "), "the observation as the model read it is missing");
    browser.press(RIGHT).await;
    browser.wait_until("document.querySelector('#at')?.innerText.startsWith('Action 2 of')").await;
    browser.wait_until("document.querySelectorAll('.plan li.done').length > 0").await;
    browser.press(LEFT).await;
    browser.wait_until("document.querySelector('#at')?.innerText.startsWith('Action 1 of')").await;
    browser.press(END).await;
    browser.wait_until("document.querySelector('#at')?.innerText === 'The end'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_shown_as_text_and_colors_follow_the_scheme() {
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
        browser.wait_until("document.readyState === 'complete'").await;
        assert!(browser.text("body").await.contains(HOSTILE.trim_end_matches(" \"")), "{address}: {}", browser.text("body").await);
        let injected = browser.eval("document.querySelectorAll('main script, main img[src=x], title script').length").await;
        assert_eq!(injected, 0, "{address}");
        assert_ne!(browser.eval("document.title").await, "owned", "{address}");
        let mut colors = Vec::new();
        for scheme in ["light", "dark"] {
            browser.set_color_scheme(scheme).await;
            colors.push(browser.eval("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color").await);
        }
        assert_ne!(colors[0], colors[1], "{address} has the same colors in both schemes");
    }
    assert!(browser.requested_urls().await.iter().all(|url| url.starts_with(&daemon.address) || url.starts_with("data:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_and_cancels_tasks_on_the_page_of_the_request() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let example = TaskNeedingApproval::serve().await;
    let browser = Chromium::start(directory.path()).await;
    sign_in(&browser, &daemon).await;
    let task = daemon.submit(&example.goal, &example.url, example.fields.clone()).await;
    browser.wait_until(&format!("document.getElementById('task-{task}')?.closest('li').querySelector('.state-needs_approval')")).await;
    browser.open(&format!("{}/tasks/{task}", daemon.address)).await;
    browser.wait_until("document.querySelector('#decision img')?.naturalWidth > 0").await;
    let request = browser.text("#decision").await;
    assert!(request.contains("call fetch") && request.contains("not among those this task may call"), "{request}");
    browser.tab_to("#note").await;
    browser.press("this once").await;
    check_width(&browser, "a decision").await;
    browser.tab_to("#approve").await;
    browser.press(ENTER).await;
    browser.wait_until("!document.querySelector('#decision form')").await;
    browser.wait_until("document.querySelector('#log').innerText.includes('approved: this once')").await;
    browser.wait_until("document.querySelector('#standing .state-done')").await;
    assert_eq!(browser.eval("document.querySelectorAll('#plan li.done').length").await, 6, "the plan was not continued");

    let cancelled = daemon.submit(&example.goal, &example.url, example.fields.clone()).await;
    browser.open(&format!("{}/tasks/{cancelled}", daemon.address)).await;
    browser.wait_until("document.querySelector('#deny')").await;
    browser.tab_to("#cancel").await;
    browser.press(ENTER).await;
    browser.wait_until("document.querySelector('#standing .state-cancelled')").await;
}
