//! `cluster.*`: how the roles of a cluster find and trust each other. One process alone needs none of it.

use super::Key;
use crate::config::value::Access;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "cluster.route",
        help: "host:port of the route service's internal port, for brokers and proxies. Several, with commas, are tried in turn.",
        access: Access::OptionalText { at: |c| &mut c.cluster.route },
    },
    Key {
        name: "cluster.advertise",
        help: "host:port under which the other roles reach this broker's internal port. None: the address of server.internal, or the host's name and that port where it is 0.0.0.0.",
        access: Access::OptionalText { at: |c| &mut c.cluster.advertise },
    },
    Key {
        name: "cluster.secret_file",
        help: "File with a secret of at least 16 characters that all roles share. None: nobody is asked for one.",
        access: Access::OptionalText { at: |c| &mut c.cluster.secret_file },
    },
    Key {
        name: "cluster.tls_ca",
        help: "PEM file of the authority that signed the certificates of all roles. Read again when it changes, as the next two.",
        access: Access::OptionalText { at: |c| &mut c.cluster.tls_ca },
    },
    Key {
        name: "cluster.tls_certificate",
        help: "PEM file of this process's certificate for internal ports; it must hold the name under which others dial it.",
        access: Access::OptionalText { at: |c| &mut c.cluster.tls_certificate },
    },
    Key {
        name: "cluster.tls_key",
        help: "PEM file of the private key that belongs to it.",
        access: Access::OptionalText { at: |c| &mut c.cluster.tls_key },
    },
];
