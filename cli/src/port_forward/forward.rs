//! One forward: it listens as long as its target is there, and comes back by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ends::{Connection, Listener, Trouble, Way};
use super::hub::{Hub, Pause, say};
use super::words::{Place, Words};
use crate::reach::Unreached;

/// The connection by which the target was found is used for the first one that comes within this time, since there are
/// targets that take one only. Our own pace: nothing outside depends on it.
const SPARE_LIFE: Duration = Duration::from_secs(5);

/// How a forward ends: never, but for what no further attempt can cure.
///
/// `tell` says on which port it listens, each time it does.
pub(super) async fn forward(
    hub: Arc<Hub>,
    way: Way,
    words: Words,
    tell: impl Fn(&str) -> std::io::Result<()> + Send + Sync,
) -> Unreached {
    let Words { mut listen, target } = words;
    let (mut pause, mut told, mut ever) = (Pause::new(), String::new(), false);
    // They go on while the port is closed.
    let mut carried = JoinSet::new();
    loop {
        let trouble = match begin(&hub, way, &listen, &target).await {
            Ok((listener, at, spare)) => {
                let line = format!("{at} -> {target}");
                if let Err(error) = tell(&line) {
                    return failure(format!("can't write to stdout: {error}"));
                }
                (listen, pause, ever) = (at, Pause::new(), true);
                told.clear();
                serve(&hub, way, &listener, &target, spare, &mut carried).await
            }
            // A port that can't be had at first is a mistake; later it may be held by our own last connection.
            Err(Trouble::Other(sentence)) if !ever => return failure(sentence),
            Err(trouble) => trouble,
        };
        match trouble {
            Trouble::Final(unreached) => return unreached,
            Trouble::Lost => {}
            Trouble::Nobody(reason) | Trouble::Other(reason) => {
                if told != reason {
                    say(&format!("{listen} is closed, waiting for {target}: {reason}"));
                    told = reason;
                }
            }
        }
        pause.wait().await;
    }
}

fn failure(sentence: String) -> Unreached {
    Unreached { code: crate::codes::FAILURE, sentence: Some(sentence), again: false }
}

/// Listens once the target is there; until then whoever connects is refused by the system.
async fn begin(
    hub: &Hub,
    way: Way,
    listen: &Place,
    target: &Place,
) -> Result<(Listener, Place, Connection), Trouble> {
    let spare = way.connect(hub, target).await?;
    let (listener, at) = way.listen(hub, listen).await?;
    Ok((listener, at, spare))
}

/// Carries connections until the target or the port is gone.
async fn serve(
    hub: &Arc<Hub>,
    way: Way,
    listener: &Listener,
    target: &Place,
    spare: Connection,
    carried: &mut JoinSet<()>,
) -> Trouble {
    let (tell, mut gone) = mpsc::channel::<Trouble>(1);
    let (mut spare, stale) = (Some(spare), Instant::now() + SPARE_LIFE);
    loop {
        let accepting = async {
            // Fails only once the semaphore is closed, which nobody does.
            let place = Arc::clone(&hub.places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepting => accepted,
            Some(trouble) = gone.recv() => return trouble,
            () = sleep_until(stale), if spare.is_some() => {
                spare = None;
                continue;
            }
            Some(_) = carried.join_next() => continue,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(trouble) => return trouble,
        };
        let (hub, target, tell, spare) = (Arc::clone(hub), target.clone(), tell.clone(), spare.take());
        carried.spawn(async move {
            let _place = place;
            let other = match spare {
                Some(spare) => Ok(spare),
                None => way.connect(&hub, &target).await,
            };
            match other {
                Ok(other) => {
                    // What broke is told by the connection itself.
                    let _ = connection.join(other).await;
                }
                Err(trouble) => {
                    connection.reset();
                    if let Trouble::Other(reason) = &trouble {
                        say(reason);
                    } else if !matches!(trouble, Trouble::Lost) {
                        // One is told; the others have the same to say.
                        let _ = tell.try_send(trouble);
                    }
                }
            }
        });
    }
}
