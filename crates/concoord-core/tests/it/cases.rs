//! What was once lost, forked, stuck or given away, each case by itself.

use bytes::Bytes;
use concoord_core::call::{Call, SessionId};
use concoord_core::limits::{ARGUMENT_BYTES_MAX, CONNECTION_SESSIONS_MAX};
use concoord_core::view::Role;
use concoord_core::wire::Request;

use crate::sim::{SECOND, cluster};
use crate::world::World;
