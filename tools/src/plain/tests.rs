#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use milepost_runtime::{Key, State};

use super::*;

/// A site in memory: its pages by path, and the requests that it got.
#[derive(Default)]
struct Site {
    pages: Vec<(&'static str, Response)>,
    requests: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Site {
    async fn request(&self, request: Request) -> Result<Response> {
        let path = &request.url[url::Position::BeforePath..];
        let line = format!("{:?} {path} {} {}", request.method, request.body.unwrap_or_default(), request.cookies.unwrap_or_default());
        self.requests.lock().unwrap().push(line.split_whitespace().collect::<Vec<_>>().join(" "));
        let found = self.pages.iter().find(|(known, _)| *known == path || *known == request.url.path());
        Ok(found.map_or_else(
            || Response { status: 404, body: "<h1>Not found</h1>".into(), ..Response::default() },
            |(_, response)| response.clone(),
        ))
    }
}

impl Site {
    fn page(mut self, path: &'static str, body: &str) -> Self {
        self.pages.push((path, Response { status: 200, body: body.to_owned(), ..Response::default() }));
        self
    }

    fn redirect(mut self, path: &'static str, status: u16, to: &str, cookies: &[&str]) -> Self {
        let set_cookies = cookies.iter().map(|cookie| (*cookie).to_owned()).collect();
        self.pages.push((path, Response { status, location: Some(to.into()), set_cookies, ..Response::default() }));
        self
    }

    /// Opens the page `/` in an environment with two secrets.
    async fn open(self) -> (PlainEnvironment, Arc<Self>) {
        let site = Arc::new(self);
        let mut secrets = Secrets::default();
        secrets.add("password", "hunter2!", &Url::parse("http://shop.test/").unwrap());
        secrets.add("other", "elsewhere", &Url::parse("http://bank.test/").unwrap());
        let mut environment = PlainEnvironment::new(site.clone(), secrets);
        environment.reset(&Task::new("look", "http://shop.test/").unwrap()).await.unwrap();
        (environment, site)
    }

    /// The last request, with method, path, body and cookies.
    fn last_request(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn observe(body: &str) -> Observation {
    Site::default().page("/", body).open().await.0.observe().await.unwrap()
}

async fn check_text(body: &str, text: &str) {
    assert_eq!(observe(body).await.text, text, "{body}");
}

async fn check_element(body: &str, line: &str) {
    let seen = observe(body).await;
    assert_eq!(seen.elements.first().map(milepost_runtime::Element::line).as_deref(), Some(line), "{body}");
}

async fn check_none(body: &str) {
    assert_eq!(observe(body).await.elements, [], "{body}");
}

/// Carries out action lines. An element can be named by role and name in angle brackets, as in `click <button "Pay">`.
async fn act(environment: &mut PlainEnvironment, lines: &[&str]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for line in lines {
        let seen = environment.observe().await.unwrap();
        let line = match line.split_once('<') {
            Some((verb, rest)) => {
                let (named, rest) = rest.split_once('>').unwrap();
                let (role, name) = named.split_once(' ').unwrap();
                let id = seen.find(role, name.trim_matches('"')).unwrap_or_else(|| panic!("no {named} in {}", seen.render(99))).id;
                format!("{verb}{id}{rest}")
            }
            None => (*line).to_owned(),
        };
        outcomes.push(environment.act(&Action::parse(&line).unwrap()).await.unwrap());
    }
    outcomes
}

async fn check_sent(form: &str, lines: &[&str], sent: &str) {
    let (mut environment, site) = Site::default().page("/", form).page("/to", "<p>sent").open().await;
    act(&mut environment, lines).await;
    assert_eq!(site.last_request(), sent, "{form} {lines:?}");
}

async fn check_refused(body: &str, line: &str, reason: &str) {
    let (mut environment, _) = Site::default().page("/", body).open().await;
    let outcome = act(&mut environment, &[line]).await.remove(0);
    assert_eq!(outcome.error.as_deref(), Some(reason), "{line} on {body}");
}

#[tokio::test]
async fn text_is_read_in_blocks() {
    check_text("<p>One\n  two&nbsp;&amp; <b>th</b>ree</p><div>four<br>five</div>", "One two & three\nfour\nfive").await;
    check_text("a<div>b<span>c</span></div>d", "a\nbc\nd").await;
    check_text("<table><tr><th>Item<th>Price<tr><td><p>Tea</p><p>Green</p><td></td><td>4</table>", "Item | Price\nTea Green | | 4").await;
    check_text("<p>[#3] and [#x]</p>", "[ #3] and [ #x]").await;
    check_text("<p>Shown</p><p hidden>x</p><p aria-hidden=true>x</p><p style='color:red; display: none'>x</p><script>x</script><noscript>x</noscript><template>x</template>", "Shown").await;
    check_text(
        "<details><summary>More</summary><p>inside</p></details><details open><summary>Less</summary>seen</details>",
        "[#1]\n[#2]\nseen",
    )
    .await;
    check_text("<label>Name <input name=n></label> <label for=q>Far</label><b>x</b><input id=q><label>Loose</label>", "[#1] x[#2]Loose")
        .await;
    check_text("<dialog>closed</dialog><dialog open>open</dialog><h1> </h1>", "open").await;
    check_text("<div>Go <a href=/x><div>there</div></a> now</div>", "Go [#1] now").await;
}

#[tokio::test]
async fn elements_have_roles_names_values_and_states() {
    check_element("<a href=/cart>Cart <img src=x alt='(3)'></a>", r#"link "Cart (3)" 1"#).await;
    check_element("<button disabled> Pay\n now</button>", r#"button "Pay now" 1 disabled"#).await;
    check_element("<fieldset disabled><legend>x</legend><input type=submit value=Go></fieldset>", r#"button "Go" 1 disabled"#).await;
    check_element("<input type=submit>", r#"button "Submit" 1"#).await;
    check_element("<label>Email <input type=email required value=' a@b.c '></label>", r#"textbox "Email" 1 = "a@b.c" required"#).await;
    check_element("<input type=password value=x placeholder=Password>", r#"textbox "Password" 1 password"#).await;
    check_element("<input type=number title=Count value=x1>", r#"spinbutton "Count" 1 = """#).await;
    check_element("<textarea aria-label=Note>\nline\n2</textarea>", r#"textbox "Note" 1 = "line 2""#).await;
    check_element(
        "<b id=a>Red</b><b id=b>size</b><select aria-labelledby='b a'><option disabled>-<option>S<option selected> L  X<option>M</select>",
        r#"combobox "size Red" 1 = "L X""#,
    )
    .await;
    check_element("<select aria-label=s><option disabled>Choose<option>S</select>", r#"combobox "s" 1 = "S""#).await;
    check_element("<select multiple aria-label=s><option>S</select>", r#"listbox "s" 1"#).await;
    check_element("<input type=checkbox id=c checked><label for=c>Gift</label>", r#"checkbox "Gift" 1 checked"#).await;
    check_element("<details open><summary>More</summary></details>", r#"button "More" 1 expanded"#).await;
    check_element("<a href=# aria-current=page>Home</a>", r#"link "Home" 1 selected"#).await;
    check_element("<div tabindex=0>Card</div>", r#"button "Card" 1"#).await;
    check_element("<label>Gift <input type=checkbox checked hidden></label>", r#"checkbox "Gift" 1 checked"#).await;
    check_element("<div contenteditable>some <b>text</b></div>", r#"textbox "" 1 = "some text""#).await;
    check_none("<a>no</a><a href=/x></a><input type=hidden><div tabindex=-1>x</div><p>text").await;
    let seen = observe("<title> A \n B </title><select><option>x &amp; y<option label=z></select>").await;
    assert_eq!((seen.title.as_str(), seen.elements[0].options.clone()), ("A B", vec!["x & y".to_owned(), String::new()]));
    assert!(seen.changed && !seen.truncated);
}

#[tokio::test]
async fn the_last_checked_radio_button_wins() {
    let seen =
        observe("<input type=radio name=a checked><input type=radio name=a checked><form><input type=radio name=a checked></form>").await;
    assert_eq!(seen.elements.iter().map(|element| element.is(State::Checked)).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn large_pages_are_truncated() {
    let seen = observe(&"<a href=#>x</a> ".repeat(401)).await;
    assert_eq!((seen.elements.len(), seen.truncated), (400, true));
    let seen = observe(&"<p>0123456789</p>".repeat(3_000)).await;
    assert!(seen.truncated && seen.text.len() <= 20_000);
    observe(&"<div>".repeat(5_000)).await;
}

#[tokio::test]
async fn forms_send_what_a_browser_sends() {
    let form = "<form action=/to><input name=q><input type=hidden name=h value=1><input type=checkbox name=c><select name=s><option value=1>One<option>Two words</select><button name=b value=go>Go</button><button>Other</button></form>";
    check_sent(form, &[r#"type <textbox ""> "a b&c""#, r#"click <button "Go">"#], "Get /to?q=a+b%26c&h=1&s=1&b=go").await;
    check_sent(
        form,
        &[r#"click <checkbox "">"#, r#"select <combobox ""> "Two words""#, r#"click <button "Other">"#],
        "Get /to?q=&h=1&c=on&s=Two+words",
    )
    .await;
    check_sent(form, &[r#"type <textbox ""> "x""#, "press Enter"], "Get /to?q=x&h=1&s=1&b=go").await;
    let post = "<form method=post action=/to?k=1><textarea name=t>a\nb</textarea><input type=radio name=r value=1><label><input type=radio name=r value=2>Two</label><input name=off disabled value=x><input type=submit name=s value=Save></form>";
    check_sent(post, &[r#"click <radio "Two">"#, r#"click <button "Save">"#], "Post /to?k=1 t=a%0D%0Ab&r=2&s=Save").await;
    check_sent(
        "<form id=f action=/to></form><input form=f name=a value=1><button form=f formmethod=post>Go</button>",
        &[r#"click <button "Go">"#],
        "Post /to a=1",
    )
    .await;
    check_sent("<form action=/to><input name=only></form>", &[r#"type <textbox ""> "1""#, "press Enter"], "Get /to?only=1").await;
    check_sent(
        "<form action=/to><input name=one><input name=two aria-label=two></form>",
        &[r#"type <textbox "two"> "1""#, "press Enter"],
        "Get /",
    )
    .await;
    check_sent(
        "<form action=/to><input name=m maxlength=3><button>Go</button></form>",
        &[r#"type <textbox ""> "12345""#, "press Backspace", r#"click <button "Go">"#],
        "Get /to?m=12",
    )
    .await;
    check_sent("<form action=/to><input name=q value=1><button type=reset>Undo</button><button type=button>Idle</button><button>Go</button></form>", &[r#"type <textbox ""> "2""#, r#"click <button "Undo">"#, r#"click <button "Idle">"#, r#"click <button "Go">"#], "Get /to?q=1").await;
    check_sent(
        "<form action=/to><input name=q aria-label=q></form><form action=/no><button>No</button></form>",
        &[r#"click <textbox "q">"#, "press Enter"],
        "Get /to?q=",
    )
    .await;
}

#[tokio::test]
async fn invalid_forms_are_not_sent() {
    let invalid = [
        "<input name=a required>",
        "<input name=a type=number min=2 value=1>",
        "<input name=a type=number min=1 value=1.5>",
        "<input name=a type=email value=nobody>",
        "<input name=a pattern='[0-9]{4}' value=12345>",
        "<input name=a type=date max=2024-01-31 value=2024-02-01>",
        "<input name=a type=checkbox required>",
        "<input name=a type=radio required><input name=a type=radio>",
        "<select name=a required><option value=''>Choose<option>x</select>",
        "<textarea name=a required></textarea>",
        "<input name=a type=url value=nowhere>",
    ];
    for control in invalid {
        check_sent(&format!("<form action=/to>{control}<button>Go</button></form>"), &[r#"click <button "Go">"#], "Get /").await;
        let free = format!("<form action=/to novalidate>{control}<button name=b value=1>Go</button></form>");
        let (mut environment, site) = Site::default().page("/", &free).page("/to", "").open().await;
        act(&mut environment, &[r#"click <button "Go">"#]).await;
        assert!(site.last_request().contains("b=1"), "{free}");
    }
    check_sent(
        "<form action=/to><input name=a type=date value=2024-02-29><input name=n type=number step=0.1 value=0.3><button>Go</button></form>",
        &[r#"click <button "Go">"#],
        "Get /to?a=2024-02-29&n=0.3",
    )
    .await;
}

#[tokio::test]
async fn impossible_actions_are_refused() {
    check_refused("<p>x", "click 1", "invalid: there is no element 1 on the page").await;
    check_refused("<button disabled>x</button>", "click 1", "element 1 is disabled").await;
    check_refused("<input readonly>", r#"type 1 "x""#, "element 1 is read-only").await;
    check_refused("<button>x</button>", r#"type 1 "x""#, "invalid: element 1 takes no text").await;
    check_refused("<input type=date>", r#"type 1 "31.12.2024""#, "element 1 takes no such text (it is a date field, write 2024-12-31)")
        .await;
    check_refused("<select><option>a</select>", r#"select 1 "b""#, "invalid: element 1 has no option \"b\"").await;
    check_refused("<select><option disabled>a</select>", r#"select 1 "a""#, "element 1 has the option \"a\", but it is disabled").await;
    check_refused("<p>x", r#"goto "ftp://shop.test/""#, "invalid: \"ftp://shop.test/\" is no http or https address").await;
    check_refused("<p>x", "back", "there is no earlier page to go back to").await;
    let short = "element 1 takes at most 7 characters, fewer than the secret has";
    check_refused("<input maxlength=7>", r#"type 1 "{{secret:password}}""#, short).await;
    check_refused("<input>", r#"type 1 "{{secret:other}}""#, "secret \"other\": it is bound to http://bank.test, not to http://shop.test")
        .await;
}

#[tokio::test]
async fn secrets_are_typed_but_never_shown() {
    let form =
        "<form action=/to method=post><input name=p type=password aria-label=p><input name=t aria-label=t><button>Go</button></form>";
    let (mut environment, site) = Site::default().page("/", form).page("/to", "<p>Welcome hunter2!").open().await;
    let secret = r#"type <textbox "t"> "{{secret:password}}""#;
    for typed in [&[secret][..], &[secret, "press Backspace"], &[r#"type <textbox "p"> "{{secret:password}}""#, secret]] {
        act(&mut environment, typed).await;
        let seen = environment.observe().await.unwrap();
        assert_eq!(seen.elements[1].value.as_deref(), Some("{{secret:password}}"), "{typed:?}");
    }
    act(&mut environment, &[r#"click <button "Go">"#]).await;
    assert_eq!(site.last_request(), "Post /to p=hunter2%21&t=hunter2%21");
    assert_eq!(environment.observe().await.unwrap().text, "Welcome {{secret:password}}");
    assert_eq!(environment.scrubbed("p=hunter2%21 was sent"), "p={{secret:password}} was sent");
}

#[tokio::test]
async fn a_secret_at_the_end_of_a_cut_text_is_hidden() {
    let (name, value) = ("x".repeat(296), "x".repeat(1_996));
    let page = format!("<button>{name}hunter2!</button><input aria-label=t value={value}hunter2!>");
    let (mut environment, _) = Site::default().page("/", &page).open().await;
    let seen = environment.observe().await.unwrap();
    assert!(seen.truncated);
    assert_eq!(seen.elements[0].name, format!("{name}{{{{secret:password}}}}"));
    assert_eq!(seen.elements[1].value.as_deref(), Some(&*format!("{value}{{{{secret:password}}}}")));
}

#[tokio::test]
async fn history_cookies_and_redirects_work() {
    let site = Site::default()
        .page("/", "<a href=/a#top>A</a><a href=#here>Here</a><form method=post action=/login><button>In</button></form><a href='mailto:x@y'>Mail</a>")
        .page("/a", "<title>A</title><a href='b?x=1'>B</a>")
        .page("/b", "<base href=/deep/><a href=c>C</a>")
        .page("/deep/c", "<p>C")
        .redirect("/login", 303, "/home", &["sid=1; Path=/; HttpOnly", "gone=1; Max-Age=0", "deep=2; Path=/deep"])
        .page("/home", "<p>Home");
    let (mut environment, site) = site.open().await;
    act(&mut environment, &[r#"click <link "Here">"#]).await;
    assert_eq!(environment.observe().await.unwrap().url, "http://shop.test/#here");
    assert!(!environment.observe().await.unwrap().changed);
    act(&mut environment, &["back", r#"click <link "Mail">"#, r#"click <button "In">"#]).await;
    let seen = environment.observe().await.unwrap();
    assert_eq!((seen.url.as_str(), seen.changed, site.last_request().as_str()), ("http://shop.test/home", true, "Get /home sid=1"));
    act(&mut environment, &["back", r#"click <link "A">"#]).await;
    assert_eq!(environment.observe().await.unwrap().url, "http://shop.test/a#top");
    act(&mut environment, &[r#"click <link "B">"#, r#"click <link "C">"#]).await;
    assert_eq!(site.last_request(), "Get /deep/c deep=2; sid=1");
    act(&mut environment, &["back", "back"]).await;
    assert_eq!(environment.observe().await.unwrap().title, "A");
    act(&mut environment, &[r#"goto "/nowhere""#]).await;
    assert_eq!(environment.observe().await.unwrap().text, "Not found");
}

#[tokio::test]
async fn ids_stay_while_a_page_lives() {
    let page = "<details><summary>More</summary><a href=/x>Inner</a></details><button type=button>Last</button>";
    let (mut environment, _) = Site::default().page("/", page).open().await;
    act(&mut environment, &["click 1"]).await;
    let seen = environment.observe().await.unwrap();
    assert_eq!(seen.text, "[#1]\n[#3]\n[#2]");
    act(&mut environment, &["click 1"]).await;
    let outcome = act(&mut environment, &["click 3"]).await.remove(0);
    assert_eq!(outcome.error.as_deref(), Some("element 3 has no place on the page to click"));
    environment.act(&Action::Press(Key::Tab)).await.unwrap();
    assert!(environment.act(&Action::Wait).await.unwrap().ok);
}

#[tokio::test]
async fn other_answers_than_pages_are_shown_as_a_browser_shows_them() {
    let json = Response {
        status: 200,
        content_type: Some("application/json; charset=utf-8".into()),
        body: "{\"a<b\": 1}".into(),
        ..Response::default()
    };
    let none = Response { status: 204, ..Response::default() };
    let mut site = Site::default()
        .page("/", "<a href=/none>None</a><a href=/api>Api</a>")
        .page("/fresh", "<meta http-equiv=refresh content='0; url=/api'>");
    site.pages.extend([("/api", json), ("/none", none)]);
    let (mut environment, _) = site.open().await;
    act(&mut environment, &[r#"click <link "None">"#, r#"goto "/fresh""#]).await;
    let seen = environment.observe().await.unwrap();
    assert_eq!((seen.url.as_str(), seen.text.as_str()), ("http://shop.test/api", "{\"a<b\": 1}"));
}

#[tokio::test]
async fn going_back_finds_what_was_typed() {
    let form = "<form action=/to><input name=q aria-label=q><input type=checkbox name=c><input type=password name=p aria-label=p><button>Go</button></form>";
    let (mut environment, _) = Site::default().page("/", form).page("/to", "<p>sent").open().await;
    let before = [r#"type <textbox "q"> "tea""#, r#"click <checkbox "">"#, r#"type <textbox "p"> "x""#, r#"click <button "Go">"#, "back"];
    act(&mut environment, &before).await;
    let seen = environment.observe().await.unwrap();
    assert_eq!((seen.elements[0].value.as_deref(), seen.elements[1].is(State::Checked)), (Some("tea"), true));
}
