//! The addresses of NameNodes, by the configuration.

use millstream_hadoop_config::HadoopConfiguration;

use crate::OpenError;

/// The default port of a NameNode.
const DEFAULT_PORT: u16 = 8020;

/// The address of an HDFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// One NameNode, `host:port`.
    Single(String),
    /// A nameservice and the ids of its NameNodes.
    Nameservice(String, Vec<String>),
}

impl Address {
    pub(crate) fn find(
        configuration: &HadoopConfiguration,
        authority: &str,
    ) -> Result<Self, OpenError> {
        if authority.is_empty() {
            let default_fs = configuration.get("fs.defaultFS").unwrap_or_default();
            let named = default_fs.strip_prefix("hdfs://").map(|rest| rest.trim_end_matches('/'));
            return match named {
                Some(named) if !named.is_empty() => Self::find(configuration, named),
                Some(_) | None => Err(OpenError::NoDefault { default_fs }),
            };
        }
        let has_port = |address: &str| {
            let port = address.rsplit_once(':').map(|(_, port)| port);
            port.is_some_and(|port| port.parse::<u16>().is_ok())
        };
        if has_port(authority) {
            return Ok(Self::Single(authority.to_owned()));
        }
        let ids = configuration.list(&format!("dfs.ha.namenodes.{authority}"));
        if !ids.is_empty() {
            return Ok(Self::Nameservice(authority.to_owned(), ids));
        }
        // A nameservice with one NameNode has its address; a host stands for itself.
        let key = format!("dfs.namenode.rpc-address.{authority}");
        let address = configuration.get_or(&key, authority);
        let ported = has_port(&address);
        Ok(Self::Single(if ported { address } else { format!("{address}:{DEFAULT_PORT}") }))
    }

    /// The URL for the library.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Single(address) => format!("hdfs://{address}"),
            Self::Nameservice(name, _) => format!("hdfs://{name}"),
        }
    }

    /// The addresses of the NameNodes, as far as the configuration names them.
    pub(crate) fn servers(&self, configuration: &HadoopConfiguration) -> Vec<String> {
        match self {
            Self::Single(address) => vec![address.clone()],
            Self::Nameservice(name, ids) => {
                let key = |id: &String| format!("dfs.namenode.rpc-address.{name}.{id}");
                ids.iter().filter_map(|id| configuration.get(&key(id))).collect()
            }
        }
    }

    /// Number of NameNodes.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Nameservice(_, ids) => ids.len(),
        }
    }

    /// The property that puts another NameNode first, because the library always begins with the
    /// first.
    pub(crate) fn beginning_with(&self, first: usize) -> Option<(String, String)> {
        let Self::Nameservice(name, ids) = self else { return None };
        let mut ids = ids.clone();
        let len = ids.len().max(1);
        ids.rotate_left(first % len);
        Some((format!("dfs.ha.namenodes.{name}"), ids.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> HadoopConfiguration {
        let mut configuration = HadoopConfiguration::new();
        pairs.iter().for_each(|(key, value)| configuration.set(*key, *value));
        configuration
    }

    #[test]
    fn hosts_ports_nameservices_and_the_default() {
        let configuration = of(&[
            ("fs.defaultFS", "hdfs://ha/"),
            ("dfs.ha.namenodes.ha", "nn1, nn2"),
            ("dfs.namenode.rpc-address.ha.nn1", "a:8020"),
            ("dfs.namenode.rpc-address.ha.nn2", "b:8020"),
            ("dfs.namenode.rpc-address.plain", "node-7:9000"),
            ("dfs.namenode.rpc-address.bare", "node-8"),
        ]);
        let find = |authority| Address::find(&configuration, authority).unwrap();
        let single = |address: &str| Address::Single(address.to_owned());
        assert_eq!(find("nn:9000"), single("nn:9000"));
        assert_eq!(find("nn"), single("nn:8020"));
        assert_eq!(find("plain"), single("node-7:9000"));
        assert_eq!(find("bare"), single("node-8:8020"));
        let ha = Address::Nameservice("ha".to_owned(), vec!["nn1".to_owned(), "nn2".to_owned()]);
        assert_eq!((find("ha"), find("")), (ha.clone(), ha.clone()));
        assert_eq!((ha.url(), ha.count()), ("hdfs://ha".to_owned(), 2));
        assert_eq!(ha.servers(&configuration), ["a:8020", "b:8020"]);
        assert_eq!(single("nn:9000").servers(&configuration), ["nn:9000"]);
        assert_eq!(ha.beginning_with(3).unwrap().1, "nn2,nn1");
        assert_eq!(single("nn:9000").beginning_with(1), None);
    }

    #[test]
    fn a_default_that_is_no_hdfs_is_refused() {
        for default_fs in ["", "file:///", "hdfs:///", "viewfs://cluster/"] {
            let error = Address::find(&of(&[("fs.defaultFS", default_fs)]), "").unwrap_err();
            assert!(error.to_string().contains("set fs.defaultFS"), "{error}");
        }
    }
}
