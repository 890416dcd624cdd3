//! Bounds, order and the end of an outlet.

use super::*;

fn outlet(queue_bytes: usize, budget: usize) -> Arc<Outlet> {
    let limits = Limits::default().with(|limits| limits.queues.queue_bytes = queue_bytes);
    Outlet::new(&limits, Arc::new(Budget::new(budget)))
}

fn take(outlet: &Outlet) -> Bytes {
    let Some(Next::Frame(queued)) = outlet.try_next() else { panic!("no frame") };
    let (frame, weight) = queued.into_parts();
    let mut done = Done::default();
    done.add(frame.len(), weight);
    outlet.written(&done);
    frame
}

#[tokio::test]
async fn a_full_queue_says_so_and_takes_more_when_something_left() {
    let outlet = outlet(200, 1000);
    outlet.try_push(Bytes::from_static(b"one")).unwrap();
    outlet.try_push(Bytes::from_static(b"two")).unwrap();
    let three = Bytes::from(vec![3; 100]);
    assert_eq!(outlet.try_push(three.clone()), Err(PushError::Full(three.clone())));
    let waiting = {
        let (outlet, three) = (Arc::clone(&outlet), three.clone());
        tokio::spawn(async move { outlet.push(three).await })
    };
    assert_eq!(take(&outlet), "one");
    assert_eq!(take(&outlet), "two");
    waiting.await.unwrap().unwrap();
    assert_eq!(take(&outlet), three);
}

#[test]
fn one_message_of_any_size_fits_into_an_empty_queue() {
    let outlet = outlet(100, 10_000);
    outlet.try_push(Bytes::from(vec![0; 5000])).unwrap();
    assert!(matches!(outlet.try_push(Bytes::from_static(b"x")), Err(PushError::Full(_))));
    assert_eq!(take(&outlet).len(), 5000);
    outlet.try_push(Bytes::from_static(b"x")).unwrap();
}

#[test]
fn a_token_over_its_budget_loses_the_socket_that_queues_more() {
    let budget = Arc::new(Budget::new(100));
    let limits = Limits::default();
    let (first, second) =
        (Outlet::new(&limits, Arc::clone(&budget)), Outlet::new(&limits, Arc::clone(&budget)));
    first.try_push(Bytes::from(vec![0; 90])).unwrap();
    second.try_push(Bytes::from(vec![0; 90])).unwrap();
    assert_eq!(second.try_push(Bytes::from_static(b"x")), Err(PushError::Closed));
    assert!(second.is_closing() && !first.is_closing());
    assert!(budget.queued() > 100);
    drop((first, second));
    assert_eq!(budget.queued(), 0);
}

#[tokio::test]
async fn closing_wakes_those_who_wait_and_the_first_reason_counts() {
    let outlet = outlet(100, 1000);
    outlet.try_push(Bytes::from(vec![0; 90])).unwrap();
    let waiting = {
        let outlet = Arc::clone(&outlet);
        tokio::spawn(async move { outlet.push(Bytes::from_static(b"x")).await })
    };
    outlet.close(Closing::Slow);
    outlet.close(Closing::Draining);
    assert_eq!(waiting.await.unwrap(), Err(PushError::Closed));
    assert_eq!(outlet.closed().await, Closing::Slow);
}

#[test]
fn control_frames_go_in_whatever_the_bound_and_pongs_go_first() {
    let outlet = outlet(100, 1000);
    outlet.try_push(Bytes::from(vec![0; 90])).unwrap();
    outlet.push_control(Bytes::from_static(b"reset"));
    outlet.pong(Bytes::from_static(b"1"));
    outlet.pong(Bytes::from_static(b"2"));
    outlet.ping();
    assert!(matches!(outlet.try_next(), Some(Next::Pong(payload)) if payload == "2"));
    assert!(matches!(outlet.try_next(), Some(Next::Ping)));
    assert_eq!(take(&outlet).len(), 90);
    assert_eq!(take(&outlet), "reset");
    assert!(outlet.try_next().is_none());
}
