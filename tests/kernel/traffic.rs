//! Real traffic between the node and the pod.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::world::{World, within};

/// How long an answer may take: none comes if policy drops.
const PATIENCE: Duration = Duration::from_millis(250);

/// Echo servers in the pod for both families, until drop.
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    pub fn new(world: &World, tcp: &[u16], udp: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for port in tcp {
            let server = within(&world.pod, || TcpListener::bind(format!("[::]:{port}")).unwrap());
            server.set_nonblocking(true).unwrap();
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || serve_tcp(&server, &stop)));
        }
        for port in udp {
            let server = within(&world.pod, || UdpSocket::bind(format!("[::]:{port}")).unwrap());
            server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || serve_udp(&server, &stop)));
        }
        Self { stop, threads }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_tcp(server: &TcpListener, stop: &AtomicBool) {
    let mut clients: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((client, _)) = server.accept() {
            client.set_nonblocking(true).unwrap();
            clients.push(client);
        }
        clients.retain_mut(|client| {
            let mut buffer = [0; 256];
            match client.read(&mut buffer) {
                Ok(0) => false,
                Ok(n) => client.write_all(&buffer[..n]).is_ok(),
                Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn serve_udp(server: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((n, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..n], from);
        }
    }
}

/// A connection from the node, if it is allowed.
pub fn connect(world: &World, address: &str) -> Option<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = within(&world.node, || TcpStream::connect_timeout(&address, PATIENCE)).ok()?;
    stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    Some(stream)
}

/// Whether a line goes through a connection and back.
pub fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hello"
}

/// Whether a TCP connection from the node is allowed.
pub fn tcp(world: &World, address: &str) -> bool {
    connect(world, address).is_some_and(|mut stream| echoes(&mut stream))
}

/// Whether a datagram from the node is answered.
pub fn udp(world: &World, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = within(&world.node, || UdpSocket::bind(any)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", address).unwrap();
    socket.recv(&mut [0; 16]).is_ok()
}

/// Whether an echo request from a namespace is answered.
pub fn ping(namespace: &str, address: &str) -> bool {
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["ping", "-c1", "-W0.3", "-q", address])
        .output()
        .unwrap()
        .status
        .success()
}

/// Waits until something holds: a link that is new takes a moment.
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
