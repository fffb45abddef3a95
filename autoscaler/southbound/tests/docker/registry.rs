//! A registry with one image, for who logs in: what of the OCI distribution specification (version 1.0) a pull needs.
//! Docker takes one on loopback without TLS.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use sluice_containers::Image;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The registry, until it is dropped.
pub(crate) struct Registry {
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<Asked>,
    _server: AbortOnDropHandle<()>,
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its path.
    pub(crate) path: String,
    /// What was shown, as RFC 7617 has it.
    pub(crate) credentials: Option<String>,
}

/// What is there: by its path, with its type.
type Content = HashMap<String, (&'static str, Bytes)>;

impl Registry {
    /// The image is called `shop:1` there.
    pub(crate) async fn with(image: &Image, credentials: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (asking, asked) = mpsc::unbounded_channel();
        let content = Arc::new(content(image));
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (content, asking) = (Arc::clone(&content), asking.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let asked = Asked::of(&request);
                    let answer = answer(&content, &asked, credentials);
                    let _ = asking.send(asked);
                    async { Ok::<_, Infallible>(answer) }
                });
                // Docker tries TLS first, which is an error here.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        };
        Self { address, asked, _server: AbortOnDropHandle::new(tokio::spawn(serve)) }
    }

    /// What the image is called in a template.
    pub(crate) fn image(&self) -> String {
        format!("{}/shop:1", self.address)
    }

    /// What it was asked since this was last called.
    pub(crate) fn asked(&mut self) -> Vec<Asked> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

impl Asked {
    fn of(request: &Request<Incoming>) -> Self {
        let shown = request.headers().get(AUTHORIZATION).and_then(|shown| shown.to_str().ok());
        let credentials = shown.and_then(|shown| shown.strip_prefix("Basic ")).map(str::to_owned);
        Self { path: request.uri().path().to_owned(), credentials }
    }
}

fn answer(content: &Content, asked: &Asked, credentials: &str) -> Response<Full<Bytes>> {
    let answer = Response::builder();
    let answer = if asked.credentials.as_deref() != Some(credentials) {
        let challenge =
            answer.status(StatusCode::UNAUTHORIZED).header(WWW_AUTHENTICATE, "Basic realm=\"test\"");
        challenge.body(Full::default())
    } else if asked.path == "/v2/" {
        answer.body(Full::default())
    } else if let Some((kind, bytes)) = content.get(&asked.path) {
        let digest = digest(bytes);
        let found = answer.header(CONTENT_TYPE, *kind).header("Docker-Content-Digest", digest);
        found.body(Full::from(bytes.clone()))
    } else {
        answer.status(StatusCode::NOT_FOUND).body(Full::default())
    };
    answer.expect("an answer")
}

fn content(image: &Image) -> Content {
    let described = |kind: &str, bytes: &[u8]| {
        let digest = digest(bytes);
        serde_json::json!({ "mediaType": kind, "size": bytes.len(), "digest": digest })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIGURATION, image.configuration()),
        "layers": [described(LAYER, image.layer())],
    });
    let manifest = Bytes::from(manifest.to_string());
    let blob = |bytes: &[u8]| format!("/v2/shop/blobs/{}", digest(bytes));
    let (configuration, layer) = (image.configuration().to_vec(), image.layer().to_vec());
    HashMap::from([
        (format!("/v2/shop/manifests/{}", digest(&manifest)), (MANIFEST, manifest.clone())),
        ("/v2/shop/manifests/1".to_owned(), (MANIFEST, manifest)),
        (blob(&configuration), (CONFIGURATION, configuration.into())),
        (blob(&layer), (LAYER, layer.into())),
    ])
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}
