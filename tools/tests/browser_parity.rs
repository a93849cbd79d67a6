//! Compares the plain environment with real Chromium: on the same pages, the same actions must give the same observations and outcomes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use milepost_runtime::{Action, Environment, Observation, Secrets, Task};
use milepost_tools::browser::{BrowserConfig, BrowserEnvironment};
use milepost_tools::plain::{HttpTransport, PlainEnvironment};
use tokio::net::TcpListener;

/// A page and the action lines to carry out on it. A line such as `click button "Pay"` names an element by role and name.
struct Case {
    page: &'static str,
    script: &'static [&'static str],
}

const fn look(page: &'static str) -> Case {
    Case { page, script: &[] }
}

const FORM: &str = "<!doctype html><title>Form</title><form action=/to><p><label for=q>Query</label> <input id=q name=q></p><p><label><input type=checkbox name=c value=yes> Gift</label></p>\
    <fieldset><legend>Size</legend><label><input type=radio name=r value=1 checked>Small</label> <label><input type=radio name=r value=2>Large</label></fieldset>\
    <label>Colour <select name=s><option value=''>Any</option><optgroup label=Warm><option>Red</option><option disabled>Pink</option></optgroup><option value=b>Deep  blue</option></select></label>\
    <label>Note <textarea name=t>\none\ntwo</textarea></label><label>When <input type=date name=d></label><label>Count <input type=number name=n min=1 max=9 step=2 value=3></label>\
    <input type=hidden name=h value='a&b'><button name=b value=go>Go</button> <button name=b value=post formmethod=post>Post</button> <button type=reset>Undo</button> <button type=button>Idle</button> <input type=submit value='Plain send' formnovalidate></form>";

const STRICT: &str = "<!doctype html><title>Strict</title><form action=/to method=post><p><label>Name <input name=a required></label></p><p><label>Email <input type=email name=e></label></p>\
    <p><label>Code <input name=k pattern='[A-Z]{2}[0-9]+'></label></p><p><label>Pick <select name=s required><option value=''>Choose</option><option>x</option></select></label></p>\
    <p><label><input type=checkbox name=c required> Agree</label></p><p><label>Day <input type=date name=d min=2024-01-10></label></p><p><label>Short <input name=m maxlength=4></label></p><button>Send</button></form>";

const CASES: &[Case] = &[
    look("<p>One\n  two&nbsp;&amp; <b>th</b>ree</p><div>four<br>five</div>"),
    look("a<div>b<span>c</span></div>d<i>e</i> f"),
    look("<table><caption>Stock</caption><thead><tr><th>Item<th>Price</thead><tbody><tr><td><p>Tea</p><p>Green</p><td></td><td>4</table>"),
    look("<table><tr><td>a</td><td><table><tr><td>in<td>ner</table></td><td><ul><li>x<li>y</ul></tr></table>"),
    look(
        "<table><tr><td><a href=/1>One</a></td><td><button>Buy</button></td><td><form><input type=submit value=X></form></td></tr></table>",
    ),
    look("<p>[#3] and [#x]</p><p>&lt;b&gt; &copy; &#8364; &zwnj;x</p>"),
    look(
        "<p>Shown</p><p hidden>x</p><p aria-hidden=true>x</p><p style='color:red; display: none'>x</p><p style='visibility:hidden'>x</p><noscript>x</noscript><template>x</template>",
    ),
    look(
        "<details><summary>More</summary><p>inside <a href=/x>x</a></p></details><details open><summary>Less</summary>seen</details><details>bare</details>",
    ),
    look(
        "<label>Name <input name=n></label> <label for=q>Far</label><b>x</b><input id=q><label>Loose</label><label for=none>Broken</label>",
    ),
    look("<dialog>closed</dialog><dialog open>open <button>OK</button></dialog><h1> </h1>"),
    look("<div>Go <a href=/x><div>there</div><p>and back</p></a> now</div>"),
    look(
        "<a href=/cart>Cart <img src='data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7' alt='(3)'></a> <a href=/img><img alt='Logo' src='data:,'></a>",
    ),
    look(
        "<button disabled> Pay\n now</button><button aria-label='Close it'>x</button><button title=Tip></button><button><span hidden>no</span>yes</button>",
    ),
    look(
        "<fieldset disabled><legend>x <button>In legend</button></legend><input type=submit value=Go><select><option>1</select></fieldset>",
    ),
    look(
        "<input type=submit><input type=reset><input type=button value=B><input type=image alt=Img src='data:,'><input type=file><input type=range value=7><input type=color>",
    ),
    look(
        "<label>Email <input type=email required value=' a@b.c '></label><input type=password value=x placeholder=Password><input type=number title=Count value=x1><input type=search aria-label=S value='a  b'>",
    ),
    look(
        "<input type=date aria-label=d value=2024-02-29><input type=date aria-label=e value=2023-02-29><input type=time aria-label=t value=10:30><input type=month aria-label=m value=2024-05><input type=week aria-label=w value=2024-W01><input type=datetime-local aria-label=l value='2024-05-01 10:30'><input type=url aria-label=u value=' x '>",
    ),
    look(
        "<textarea aria-label=Note>\nline\n2</textarea><textarea placeholder=Empty></textarea><textarea readonly disabled required>x</textarea>",
    ),
    look(
        "<b id=a>Red</b><b id=b>size</b><select aria-labelledby='b a'><option disabled>-<option>S<option selected> L  X<option>M</select>",
    ),
    look(
        "<select aria-label=s><option disabled>Choose<option>S</select><select multiple aria-label=m><option>S<option selected>T</select><select size=3 aria-label=z><option>q</select><select aria-label=none></select><select aria-label=off><option disabled>only</select>",
    ),
    look(
        "<select aria-label=l><option label=shown value=v>text<option label=bare><optgroup label=G><option>in<option selected>x &amp; y</optgroup></select>",
    ),
    look(
        "<input type=checkbox id=c checked><label for=c>Gift</label><input type=radio name=a checked><input type=radio name=a checked><form><input type=radio name=a checked></form>",
    ),
    look(
        "<a href=# aria-current=page>Home</a><a href=/x aria-disabled=true>Off</a><a>no</a><a href=/empty></a><div tabindex=0>Card</div><div tabindex=-1>Not</div><div role=button>Role</div><span role='tab' aria-selected=true>T</span><div role=checkbox aria-checked=true>C</div>",
    ),
    look("<label>Gift <input type=checkbox checked hidden></label><label>Ring <input type=radio style='display:none'></label>"),
    look(
        "<div contenteditable>some <b>text</b></div><div contenteditable=false>fixed</div><span onclick='x()'>Click me</span><div onclick='x()'>Outer <a href=/i>inner</a></div>",
    ),
    look(
        "<title> A \n B </title><ul><li>one<li>two <ul><li>three</ul></ul><ol><li>x</ol><dl><dt>t<dd>d</dl><blockquote>q</blockquote><pre>a\n  b</pre><hr><address>addr</address>",
    ),
    look(
        "<p>x<sub>2</sub> <code>c</code> <em>e</em><q>q</q> <del>d</del><ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby></p><center>c</center><figure><figcaption>f</figcaption></figure>",
    ),
    look(
        "<header>Brand<nav><a href=/>Home</a> <a href=/a>A</a></nav></header><main><h1>T</h1><section>s</section><article>a</article></main><footer>f</footer>",
    ),
    look(
        "<progress value=1 max=2>half</progress><meter value=1>one</meter><output>out</output><svg width=10 height=10><title>Icon</title><text>t</text></svg><iframe src='about:blank'></iframe>",
    ),
    look(
        "<a href=/s><svg width=9 height=9><title>Pic</title></svg></a><a href=/t title=Tip><span></span></a><button><svg width=9 height=9></svg></button><a href=/sp> </a>",
    ),
    look(
        "<form id=f></form><input form=f aria-label=in><fieldset><legend>L</legend>text</fieldset><object>fallback</object><video>v</video><canvas>c</canvas><audio>a</audio>",
    ),
    look("<summary>stray</summary><legend>stray</legend><option>o</option><optgroup label=x>g</optgroup><li>li</li><td>cell</td>"),
    look("<h2>Cart</h2><p>Tea <form method=post action=/x><input type=hidden name=i value=1><button>Remove</button></form> more</p>"),
    look(
        "<p>before <label>In <b>label</b><br>two</label> after</p><label>A <a href=/l>link</a> <input></label><label>B <button>btn</button></label>",
    ),
    look(
        "<div aria-label=x>plain</div><button><div>block</div><div>two</div></button><a href=/x>a<br>b</a><a href=/y><h3>Head</h3><p>para</p></a>",
    ),
    Case {
        page: "<form action=/to autocomplete=off><input name=q aria-label=q></form><form action=/to><input name=a aria-label=a autocomplete=off><input name=p type=password aria-label=p><input name=b aria-label=b></form>",
        script: &[
            r#"type textbox "q" "1""#,
            r#"type textbox "a" "2""#,
            r#"type textbox "p" "3""#,
            r#"type textbox "b" "4""#,
            r#"goto "/to?x""#,
            "back",
        ],
    },
    look(
        "<div style='display:inline'>in</div><div style='display:inline'>line</div><span style='display:block'>blk</span>tail<span style='display:inline-block'>ib</span>",
    ),
    look(
        "<style>p{color:red}</style><script>var a = '<p>no</p>'</script><link rel=x><meta name=y><map name=m><area href=/ar alt=Ar></map><menu><li>m</menu>",
    ),
    Case {
        page: FORM,
        script: &[
            r#"type textbox "Query" "a b&c""#,
            r#"click checkbox "Gift""#,
            r#"click radio "Large""#,
            r#"select combobox "Colour" "Deep blue""#,
            r#"type textbox "When" "2024-12-31""#,
            r#"click button "Go""#,
        ],
    },
    Case { page: FORM, script: &[r#"type textbox "Note" "x y""#, r#"type spinbutton "Count" "5""#, r#"click button "Post""#, "back"] },
    Case { page: FORM, script: &[r#"type textbox "Query" "typed""#, "press Enter", "back"] },
    Case { page: FORM, script: &[r#"type textbox "Query" "typed""#, "press Backspace", r#"click checkbox "Gift""#, "press Enter"] },
    Case {
        page: FORM,
        script: &[
            r#"type textbox "Query" "typed""#,
            r#"select combobox "Colour" "Red""#,
            r#"click button "Undo""#,
            r#"click button "Idle""#,
            r#"select combobox "Colour" "Pink""#,
            r#"select combobox "Colour" "None""#,
        ],
    },
    Case { page: FORM, script: &[r#"type spinbutton "Count" "4""#, r#"click button "Go""#, r#"click button "Plain send""#] },
    Case { page: FORM, script: &[r#"type textbox "When" "31.12.2024""#, r#"type spinbutton "Count" "abc""#, "type 99 \"x\"", "click 99"] },
    Case {
        page: FORM,
        script: &[
            r#"click combobox "Colour""#,
            "press ArrowDown",
            r#"click radio "Small""#,
            "press ArrowDown",
            "press Tab",
            r#"click button "Go""#,
        ],
    },
    Case { page: FORM, script: &[r#"type textbox "Note" "x""#, "press Enter", r#"click spinbutton "Count""#, "press Enter"] },
    Case {
        page: FORM,
        script: &[
            r#"click checkbox "Gift""#,
            r#"click radio "Large""#,
            r#"select combobox "Colour" "Red""#,
            r#"type textbox "When" "2024-12-31""#,
            r#"click button "Post""#,
            "back",
            r#"click button "Undo""#,
        ],
    },
    Case {
        page: STRICT,
        script: &[
            r#"click button "Send""#,
            r#"type textbox "Name" "Ana""#,
            r#"click button "Send""#,
            r#"select combobox "Pick" "x""#,
            r#"click button "Send""#,
            r#"click checkbox "Agree""#,
            r#"type textbox "Email" "no""#,
            r#"click button "Send""#,
            r#"type textbox "Email" "a@b""#,
            r#"type textbox "Code" "a1""#,
            r#"click button "Send""#,
            r#"type textbox "Code" "AB12""#,
            r#"type textbox "Day" "2024-01-09""#,
            "press Enter",
            r#"type textbox "Day" "2024-01-11""#,
            r#"type textbox "Short" "123456""#,
            "press Enter",
        ],
    },
    Case {
        page: "<form action=/to><input name=one aria-label=one><input name=two aria-label=two></form>",
        script: &[r#"type textbox "two" "1""#, "press Enter"],
    },
    Case { page: "<form action=/to><input name=one aria-label=one></form>", script: &[r#"type textbox "one" "1""#, "press Enter"] },
    Case {
        page: "<form action=/to><input name=one aria-label=one><button disabled>Off</button><button name=b value=2>On</button></form>",
        script: &[r#"type textbox "one" "1""#, "press Enter"],
    },
    Case {
        page: "<form action=/to><select multiple name=m aria-label=m><option selected>a<option>b<option>c</select><button>Go</button></form>",
        script: &[r#"select listbox "m" "c""#, r#"click button "Go""#],
    },
    Case {
        page: "<details><summary>More</summary><a href=/to?x>Inner</a></details><button type=button>Last</button>",
        script: &[r#"click button "More""#, r#"click link "Inner""#, "back", r#"click button "More""#, r#"click button "More""#],
    },
    Case {
        page: "<details name=g open><summary>One</summary>1</details><details name=g><summary>Two</summary>2</details>",
        script: &[r#"click button "Two""#],
    },
    Case {
        page: "<a href=#here>Here</a><a href='/to?a=b c&amp;d'>To</a><a href='mailto:x@y.z'>Mail</a><p id=here>x",
        script: &[r#"click link "Here""#, "back", r#"click link "To""#, "back", r#"goto "/to?g""#, "back", "scroll down", "wait"],
    },
    Case {
        page: "<a href=/redirect>Redirect</a><form method=post action=/redirect><button name=a value=1>Post</button></form><form method=post action=/keep><button name=k value=1>Keep</button></form>",
        script: &[
            r#"click link "Redirect""#,
            "back",
            r#"click button "Post""#,
            "back",
            r#"click button "Keep""#,
            r#"goto "/json""#,
            r#"goto "/text""#,
            r#"goto "ftp://x/""#,
            r#"goto "/missing""#,
        ],
    },
    Case { page: "<a href=/cookie>Cookie</a>", script: &[r#"click link "Cookie""#, "back", r#"goto "/deep/x""#] },
    Case {
        page: "<label>Gift <input type=checkbox name=g hidden></label><label>Text <input name=t></label>",
        script: &[r#"click checkbox "Gift""#, r#"type checkbox "Gift" "x""#],
    },
    Case {
        page: "<button disabled>Off</button><input readonly aria-label=ro value=1><input type=file aria-label=file><a href=/x aria-disabled=true>Link</a>",
        script: &[r#"click button "Off""#, r#"type textbox "ro" "x""#, r#"click file "file""#, r#"click link "Link""#],
    },
];

fn html(body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .header("content-type", "text/html; charset=utf-8")
        .header("cache-control", "no-store")
        .body(Full::from(body))
        .unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let case = path.strip_prefix("/case/").and_then(|index| index.parse::<usize>().ok()).and_then(|index| CASES.get(index));
    if let Some(case) = case {
        return Ok(html(case.page.to_owned()));
    }
    let seen = format!("{} {path} {query}", request.method());
    let cookies = request.headers().get("cookie").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let to = |status: u16, cookies: &[&str]| {
        let mut response = Response::builder().status(status).header("location", "/to?redirected");
        for cookie in cookies {
            response = response.header("set-cookie", *cookie);
        }
        Ok(response.body(Full::default()).unwrap())
    };
    match path.as_str() {
        "/redirect" => to(303, &[]),
        "/keep" => to(307, &[]),
        "/cookie" => to(302, &["a=1; Path=/", "b=2; Path=/deep", "c=3; Max-Age=0"]),
        "/json" => Ok(Response::builder().header("content-type", "application/json").body(Full::from("{\"a\": [1, \"<b>\"]}")).unwrap()),
        "/text" => Ok(Response::builder().header("content-type", "text/plain").body(Full::from("one\n<two>")).unwrap()),
        "/missing" => Ok(Response::builder().status(404).header("content-type", "text/html").body(Full::from("<h1>Gone</h1>")).unwrap()),
        _ => Ok(html(format!("<title>Echo</title><p>{seen}</p><p>{body}</p><p>{cookies}</p>").replace('&', "&amp;"))),
    }
}

async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    base
}

fn golden(seen: &Observation) -> String {
    let mut lines = vec![format!("{} {:?} truncated={} changed={}", seen.url, seen.title, seen.truncated, seen.changed), seen.text.clone()];
    lines.extend(seen.elements.iter().map(|element| format!("{} {:?}", element.line(), element.options)));
    lines.join("\n")
}

/// Parses an action line `verb role "name" rest`, with the element's id put in place of role and name.
fn resolve(line: &str, seen: &Observation) -> Action {
    Action::parse(line).unwrap_or_else(|_| {
        let (verb, rest) = line.split_once(' ').unwrap();
        let (role, rest) = rest.split_once(' ').unwrap();
        let mut parts = rest.splitn(3, '"');
        let (name, rest) = (parts.nth(1).unwrap(), parts.next().unwrap_or_default());
        let id = seen.find(role, name).unwrap_or_else(|| panic!("no {role} {name:?} in:\n{}", golden(seen))).id;
        Action::parse(format!("{verb} {id}{rest}").trim()).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_and_does_what_chromium_does() {
    let base = serve().await;
    let state = tempfile::tempdir().unwrap();
    // SAFETY: geteuid takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let config = BrowserConfig { no_sandbox: root, state_dir: Some(state.path().to_owned()), read_ms: 5_000, ..BrowserConfig::default() };
    let mut browser = BrowserEnvironment::launch(&config, Secrets::default()).await.unwrap();
    let mut plain = PlainEnvironment::new(Arc::new(HttpTransport::new().unwrap()), Secrets::default());
    let (mut differences, mut compared) = (Vec::new(), 0);
    for (index, case) in CASES.iter().enumerate() {
        let task = Task::new("look", &format!("{base}/case/{index}")).unwrap();
        browser.reset(&task).await.unwrap();
        plain.reset(&task).await.unwrap();
        for line in std::iter::once("look").chain(case.script.iter().copied()) {
            let mut outcomes = [None, None];
            if line != "look" {
                let seen = plain.observe().await.unwrap();
                browser.observe().await.unwrap();
                let action = resolve(line, &seen);
                outcomes = [Some(browser.act(&action).await.unwrap()), Some(plain.act(&action).await.unwrap())];
            }
            let [there, here] = [golden(&browser.observe().await.unwrap()), golden(&plain.observe().await.unwrap())];
            compared += 1;
            if there != here || outcomes[0] != outcomes[1] {
                let page: String = case.page.chars().take(400).collect();
                differences.push(format!(
                    "case {index}, after `{line}`: {page}\n--- Chromium {:?}\n{there}\n--- plain {:?}\n{here}\n",
                    outcomes[0], outcomes[1]
                ));
                break;
            }
        }
    }
    browser.close().await.unwrap();
    assert!(differences.is_empty(), "{} of {compared} looks differ\n\n{}", differences.len(), differences.join("\n"));
}
