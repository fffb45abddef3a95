//! Pulls of images: one for all instances that need the same one, with a progress that can be asked for.
//!
//! A pull goes on when who waits for it gives up: the next one joins it. What ends it is the registry, or that nothing of
//! it has moved for long.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::RegistryLogin;
use tokio::sync::watch;
use tokio::time::timeout;

/// The pulls that are under way, and who waits for which.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    under_way: Mutex<HashMap<Wanted, Pull>>,
    waiting: Mutex<HashMap<InstanceId, Arc<Mutex<Progress>>>>,
}

/// What is pulled, and by whom: an image that one may have is not another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) image: String,
    pub(super) login: Option<(String, std::path::PathBuf)>,
}

impl Wanted {
    pub(super) fn new(image: &str, login: Option<&RegistryLogin>) -> Self {
        let login = login.map(|login| (login.username.clone(), login.password_file.clone()));
        Self { image: image.to_owned(), login }
    }
}

#[derive(Debug, Clone)]
struct Pull {
    outcome: watch::Receiver<Option<Result<(), Arc<PullError>>>>,
    progress: Arc<Mutex<Progress>>,
}

/// Why an image is not there.
#[derive(Debug)]
pub(super) enum PullError {
    /// dockerd or the registry says so.
    Docker(Error),
    /// Nothing of it has moved for so long.
    Stalled(Duration),
    /// The task that pulled it has ended without a word.
    Lost,
}

/// How far a pull is.
#[derive(Debug, Default)]
struct Progress {
    image: String,
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug, Default, PartialEq)]
struct Layer {
    status: String,
    current: i64,
    total: i64,
}

impl Progress {
    /// Takes in what dockerd says; `false` where nothing has moved by it.
    fn note(&mut self, info: &CreateImageInfo) -> bool {
        let Some(id) = &info.id else { return false };
        let layer = self.layers.entry(id.clone()).or_default();
        let status = info.status.clone().unwrap_or_default();
        let detail = info.progress_detail.as_ref();
        let (current, total) =
            (detail.and_then(|detail| detail.current), detail.and_then(|detail| detail.total));
        let mut now = Layer { status, current: layer.current, total: layer.total };
        // Once it is here it is unpacked, and the numbers begin again.
        if now.status == "Downloading" {
            now.current = current.unwrap_or(now.current);
            now.total = total.unwrap_or(now.total);
        } else if now.status != "Waiting" && now.status != "Pulling fs layer" {
            now.current = now.total;
        }
        let unpacking = now.status == "Extracting" && current.is_some();
        let moved = *layer != now || unpacking;
        *layer = now;
        moved
    }

    /// The part that is here, of what is known of.
    fn percent(&self) -> Option<i64> {
        let known = || self.layers.values().filter(|layer| layer.total > 0);
        let total: i64 = known().map(|layer| layer.total).sum();
        let current: i64 = known().map(|layer| layer.current.min(layer.total)).sum();
        (total > 0).then(|| current.saturating_mul(100) / total)
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pulling image {}", self.image)?;
        self.percent().map_or(Ok(()), |percent| write!(f, ": {percent} %"))
    }
}

impl Pulls {
    /// Waits for a pull of the image: the one that is under way, or a new one. Cancel safe; the pull goes on.
    pub(super) async fn join(
        &self,
        docker: &Docker,
        id: &InstanceId,
        wanted: Wanted,
        credentials: Option<DockerCredentials>,
        patience: Duration,
    ) -> Result<(), Arc<PullError>> {
        let mut pull = self.enter(docker, wanted, credentials, patience);
        lock(&self.waiting).insert(id.clone(), pull.progress.clone());
        let _waits = Waits { pulls: self, id };
        match pull.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Arc::new(PullError::Lost))),
            Err(_) => Err(Arc::new(PullError::Lost)),
        }
    }

    /// What an instance waits for.
    pub(super) fn progress(&self, id: &InstanceId) -> Option<String> {
        let progress = lock(&self.waiting).get(id).cloned()?;
        let text = lock(&progress).to_string();
        Some(text)
    }

    fn enter(
        &self,
        docker: &Docker,
        wanted: Wanted,
        credentials: Option<DockerCredentials>,
        patience: Duration,
    ) -> Pull {
        let mut under_way = lock(&self.under_way);
        // What has ended, with whatever outcome, is nothing to wait for.
        under_way.retain(|_, pull| pull.outcome.borrow().is_none() && pull.outcome.has_changed().is_ok());
        let image = wanted.image.clone();
        let begin = || {
            let progress = Arc::new(Mutex::new(Progress { image: image.clone(), ..Progress::default() }));
            let (done, outcome) = watch::channel(None);
            let (docker, noted) = (docker.clone(), progress.clone());
            tokio::spawn(async move {
                let pulled = pull(docker, &image, credentials, patience, &noted).await;
                done.send_replace(Some(pulled.map_err(Arc::new)));
            });
            Pull { outcome, progress }
        };
        under_way.entry(wanted).or_insert_with(begin).clone()
    }
}

/// An instance waits for a pull until this is dropped.
struct Waits<'a> {
    pulls: &'a Pulls,
    id: &'a InstanceId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(&self.pulls.waiting).remove(self.id);
    }
}

async fn pull(
    docker: Docker,
    image: &str,
    credentials: Option<DockerCredentials>,
    patience: Duration,
    progress: &Mutex<Progress>,
) -> Result<(), PullError> {
    let mut options = CreateImageOptionsBuilder::default().from_image(image);
    if !super::image::has_tag(image) {
        // Without one dockerd would pull every tag there is.
        options = options.tag("latest");
    }
    // A registry that is slow to answer is not a dockerd that hangs.
    let docker = docker.with_timeout(patience);
    let mut said = docker.create_image(Some(options.build()), None, credentials);
    let mut moved = tokio::time::Instant::now();
    loop {
        let left = patience.saturating_sub(moved.elapsed());
        match timeout(left, said.try_next()).await {
            Err(_) => return Err(PullError::Stalled(patience)),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(info))) => {
                if lock(progress).note(&info) {
                    moved = tokio::time::Instant::now();
                }
            }
            Ok(Err(error)) => return Err(PullError::Docker(error)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bollard::models::ProgressDetail;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::sync::Notify;

    use super::*;

    fn info(id: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        let detail = (total > 0).then_some(ProgressDetail { current: Some(current), total: Some(total) });
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: detail,
            ..CreateImageInfo::default()
        }
    }

    /// A dockerd that has pulled 41 of 100 bytes until it is released; and how often it was asked.
    fn dockerd(socket: &std::path::Path, release: Arc<Notify>) -> (Docker, Arc<AtomicUsize>) {
        dockerd_that_says_so_every(socket, Duration::from_hours(1), release)
    }

    /// One that says the same again and again until then.
    fn dockerd_that_says_so_every(
        socket: &std::path::Path,
        pause: Duration,
        release: Arc<Notify>,
    ) -> (Docker, Arc<AtomicUsize>) {
        let listener = UnixListener::bind(socket).expect("a socket");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let release = release.clone();
                tokio::spawn(async move {
                    let said = "{\"id\":\"a\",\"status\":\"Downloading\",\"progressDetail\":{\"current\":41,\"total\":100}}\n";
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                    let chunk = format!("{:x}\r\n{said}\r\n", said.len());
                    let asked = stream.read(&mut [0; 4_096]).await.expect("a request");
                    assert!(asked > 0, "a request");
                    stream.write_all(head.as_bytes()).await.expect("sent");
                    // Who asked may have gone.
                    while stream.write_all(chunk.as_bytes()).await.is_ok() {
                        if timeout(pause, release.notified()).await.is_ok() {
                            stream.write_all(b"0\r\n\r\n").await.expect("sent");
                            break;
                        }
                    }
                });
            }
        });
        let socket = socket.display().to_string();
        (Docker::connect_with_unix(&socket, 5, bollard::API_DEFAULT_VERSION).expect("a client"), asked)
    }

    #[tokio::test]
    async fn a_pull_goes_on_without_who_began_it_and_is_shared() {
        let (directory, release) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
        let (docker, asked) = dockerd(&directory.path().join("sock"), release.clone());
        let pulls = Pulls::default();
        let ids = ["demo-00000001", "demo-00000002"].map(InstanceId::from_label);
        let patience = Duration::from_secs(30);
        let join = |id| pulls.join(&docker, id, Wanted::new("shop:1", None), None, patience);
        assert!(timeout(Duration::from_millis(100), join(&ids[0])).await.is_err(), "it takes longer");
        assert_eq!(pulls.progress(&ids[0]), None, "nobody waits");
        let finish = async {
            while pulls.progress(&ids[1]).as_deref() != Some("pulling image shop:1: 41 %") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            release.notify_one();
        };
        let both = async { tokio::join!(join(&ids[1]), finish) };
        let (pulled, ()) = timeout(patience, both).await.expect("in time");
        pulled.expect("pulled");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "it was not begun again");
    }

    #[tokio::test]
    async fn a_pull_that_stands_still_fails() {
        for pause in [Duration::from_hours(1), Duration::from_millis(50)] {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("sock");
            let (docker, _) = dockerd_that_says_so_every(&socket, pause, Arc::new(Notify::new()));
            let (pulls, id) = (Pulls::default(), InstanceId::from_label("demo-00000001"));
            let patience = Duration::from_secs(1);
            let pulled = pulls.join(&docker, &id, Wanted::new("shop:1", None), None, patience);
            let pulled = timeout(10 * patience, pulled).await.expect("it is given up");
            let stalled = pulled.expect_err("nothing more comes");
            assert!(matches!(&*stalled, PullError::Stalled(_)), "{stalled:?}");
        }
    }

    #[test]
    fn progress_is_what_is_here_of_all_layers() {
        let mut progress = Progress { image: "shop:1".to_owned(), ..Progress::default() };
        assert_eq!(progress.to_string(), "pulling image shop:1");
        assert!(progress.note(&info("a", "Downloading", 41, 100)));
        assert!(!progress.note(&info("a", "Downloading", 41, 100)), "nothing has moved");
        assert_eq!(progress.to_string(), "pulling image shop:1: 41 %");
        assert!(progress.note(&info("b", "Downloading", 0, 100)));
        assert!(progress.note(&info("a", "Download complete", 0, 0)));
        assert_eq!(progress.percent(), Some(50));
        assert!(progress.note(&info("a", "Extracting", 1, 300)), "it is unpacked");
        assert_eq!(progress.percent(), Some(50));
    }

    #[test]
    fn an_image_of_another_login_is_another_pull() {
        let login = RegistryLogin { username: "shop".to_owned(), password_file: "/p".into() };
        assert_ne!(Wanted::new("a", Some(&login)), Wanted::new("a", None));
        assert_eq!(Wanted::new("a", Some(&login)), Wanted::new("a", Some(&login)));
    }
}
