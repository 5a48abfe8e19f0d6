//! Which hosts may be asked, and at which addresses: the guard between clients, who name URLs, and the
//! networks that this machine is in.
//!
//! Only what the operator listed is asked at all. `*` stands for every public host, and a host is public
//! by the address that is connected to, not by its name: names are resolved here, and what this
//! resolver returns is what is dialled. Every other kind of address (this machine, its networks, a
//! cloud's metadata) is reached only where that very host was listed, by name or by address.

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

/// Hosts that may be asked. None, unless the operator lists some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    any_public: bool,
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

/// One host, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `*`: every host with a public address.
    AnyPublic,
    /// A name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// Why a URL is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another scheme.
    #[error("the scheme is {0:?}; it must be http or https")]
    Scheme(String),
    /// A name or password in it.
    #[error("a URL with a name or a password in it is not taken")]
    Credentials,
    /// None at all.
    #[error("the URL names no host")]
    NoHost,
    /// Not listed.
    #[error("{0} is not a host that may be asked; `cento serve --allow-url {0}` would allow it")]
    NotListed(String),
    /// A host that is listed by `*` only, with an address that is not public.
    #[error(
        "{host} is at {address}, which is no public address; only `cento serve --allow-url {host}` \
         would allow it"
    )]
    NotPublic {
        /// The host, as the URL names it.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// A name without an address.
    #[error("{host} has no address: {cause}")]
    Unresolved {
        /// The host.
        host: String,
        /// Why.
        cause: String,
    },
}

impl Hosts {
    /// Those listed.
    pub fn new(listed: impl IntoIterator<Item = Host>) -> Self {
        let mut hosts = Self::default();
        for host in listed {
            match host {
                Host::AnyPublic => hosts.any_public = true,
                Host::Name(name) => drop(hosts.names.insert(name)),
                Host::Address(address) => drop(hosts.addresses.insert(address)),
            }
        }
        hosts
    }

    /// Whether any is listed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a URL may be asked, as far as that can be seen before its host is resolved.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(Refused::NoHost)?;
        // An address is written in many ways; the URL's parser has made one of them.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if self.is_listed(address) => Ok(()),
            Ok(address) if !self.any_public => Err(Refused::NotListed(address.to_string())),
            Ok(address) if is_public(address) => Ok(()),
            Ok(address) => Err(Refused::NotPublic { host: address.to_string(), address }),
            Err(_) if self.any_public || self.names.contains(plain(host)) => Ok(()),
            Err(_) => Err(Refused::NotListed(host.to_owned())),
        }
    }

    /// Which of a name's addresses may be dialled.
    ///
    /// # Errors
    /// None of them.
    fn dialled(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        if self.names.contains(plain(name)) {
            return Ok(found);
        }
        if !self.any_public {
            return Err(Refused::NotListed(name.to_owned()));
        }
        let may = |found: &SocketAddr| is_public(found.ip()) || self.is_listed(found.ip());
        let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(may);
        match bad.first() {
            Some(bad) if good.is_empty() => {
                Err(Refused::NotPublic { host: name.to_owned(), address: bad.ip() })
            }
            _ => Ok(good),
        }
    }

    fn is_listed(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }
}

/// A name without the dot that a fully qualified one may end in.
fn plain(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::AnyPublic);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let expected = || {
            format!(
                "{text:?} is no host: give a name or an address, without scheme, port or path, or *"
            )
        };
        if text.contains(|c: char| c.is_whitespace() || "/:@?#\\*%".contains(c)) {
            return Err(expected());
        }
        // What stands in a URL is lower case and ASCII: the list has to be, too.
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| expected())?;
        let host = url.host_str().ok_or_else(expected)?;
        Ok(host.parse().map_or_else(|_| Self::Name(plain(host).to_owned()), Self::Address))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyPublic => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Resolves names to the addresses that may be dialled.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(pub(crate) Arc<Hosts>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| {
                Refused::Unresolved { host: host.to_owned(), cause: error.to_string() }
            })?;
            let dialled = hosts.dialled(host, found.collect())?;
            Ok(Box::new(dialled.into_iter()) as Addrs)
        })
    }
}

/// An address that anybody on the internet may be at: no machine's own, no private network's, no
/// cloud's metadata service, and none that stands for another address which is one of those.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let number = address.to_bits();
    !NOT_PUBLIC_V4.iter().any(|&(network, length)| {
        let mask = u32::MAX << (32 - length);
        number & mask == Ipv4Addr::from_octets(network).to_bits() & mask
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, high, low] = address.segments();
    // NAT64: an IPv4 address as a network without IPv4 sees it.
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    // Of all IPv6, 2000::/3 is given to the internet.
    let is_global = a & 0xe000 == 0x2000;
    // Protocols (Teredo, ORCHID, ..), documentation, 6to4, documentation.
    let is_special = a == 0x2001 && b < 0x200
        || (a, b) == (0x2001, 0xdb8)
        || a == 0x2002
        || a == 0x3fff && b < 0x1000;
    is_global && !is_special
}

/// Networks of IPv4 that are not the internet (RFC 6890 and what followed), each with its length in bits.
const NOT_PUBLIC_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),        // this host
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // carriers' NAT
    ([127, 0, 0, 0], 8),      // loopback
    ([169, 254, 0, 0], 16),   // link-local, metadata services
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocols
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // 6to4 relays
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([168, 63, 129, 16], 32), // a cloud's metadata service
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, broadcast
];

#[cfg(test)]
mod tests;
