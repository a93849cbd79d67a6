//! A small site on loopback: the pages in the folder `html`, and some that are generated.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use milepost_runtime::Task;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

const FILES: [(&str, &str); 7] = [
    ("/controls", include_str!("html/controls.html")),
    ("/form", include_str!("html/form.html")),
    ("/late", include_str!("html/late.html")),
    ("/covered", include_str!("html/covered.html")),
    ("/dialog", include_str!("html/dialog.html")),
    ("/tabs", include_str!("html/tabs.html")),
    ("/spin", include_str!("html/spin.html")),
];

/// The site. Dropping it stops the server.
pub struct Site {
    base: Url,
    server: JoinHandle<()>,
}

impl Site {
    /// Starts the server on a free port.
    pub async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        Self { base, server }
    }

    pub fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap()
    }

    pub fn task(&self, path: &str) -> Task {
        Task::new("look around", self.url(path).as_str()).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let whole = request.uri().path_and_query().map_or(path, |all| all.as_str());
    let reply = |status: u16, header: (&str, &str), body: String| {
        Response::builder().status(status).header(header.0, header.1).body(Full::from(body)).unwrap()
    };
    let html = ("content-type", "text/html; charset=utf-8");
    Ok(match path {
        "/large" => reply(200, html, (0..5_000).map(|n| format!("<p>Paragraph {n} <a href='/echo?{n}'>link {n}</a></p>")).collect()),
        "/echo" => reply(200, html, format!("<title>Echo</title><p>page {whole}</p>")),
        "/chain" => {
            let next = request.uri().query().and_then(|query| query.parse::<u32>().ok()).unwrap_or(0) + 1;
            let rows: String = (0..30).map(|row| format!("<tr><td>Item {row}</td><td><button>Buy {row}</button></td></tr>")).collect();
            reply(200, html, format!("<title>Chain</title><table>{rows}</table><a href='/chain?{next}'>onward</a>"))
        }
        "/data.json" => reply(200, ("content-type", "application/json"), "{ \"b\": 1,\n \"a\": [1, 2] }".into()),
        "/redirect" => reply(302, ("location", "/echo?redirected"), String::new()),
        "/elsewhere" => {
            let port = request.headers()["host"].to_str().unwrap().rsplit(':').next().unwrap();
            reply(302, ("location", &format!("http://localhost:{port}/data.json")), String::new())
        }
        "/escape" => reply(302, ("location", "http://example.org/"), String::new()),
        "/never" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            reply(200, html, String::new())
        }
        _ => match FILES.iter().find(|(name, _)| *name == path) {
            Some((_, page)) => reply(200, html, (*page).to_owned()),
            None => reply(404, html, "<p>not here</p>".into()),
        },
    })
}
