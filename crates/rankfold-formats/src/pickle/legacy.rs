//! Checkpoints as `torch.save` wrote them before PyTorch 1.6: five pickles, then raw storages.

use std::path::Path;

use bytes::Bytes;

use super::globals::Element;
use super::machine::{Machine, MachineFault, Value};
use super::storage::Storages;
use super::{PickleFault, select, wrap};
use crate::error::FormatError;
use crate::weights::StateDict;

/// The first pickle, a number of ten bytes.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The tensors of the checkpoint in `bytes`.
pub(crate) fn read(
    path: &Path,
    bytes: &Bytes,
    key: Option<&str>,
) -> Result<StateDict, FormatError> {
    let fault = wrap(path);
    if !bytes[bytes.len().min(2)..].starts_with(MAGIC) {
        // A bare pickle. What it names is worth more than that it is not a checkpoint.
        Machine::new(false).run(bytes).map_err(fault)?;
        return Err(fault(not_torch(0)));
    }
    let mut at = 2 + MAGIC.len();
    let mut next = |machine: &mut Machine| {
        let (value, used) = machine.run(&bytes[at..]).map_err(|e| shifted(e, at))?;
        at += used;
        Ok((value, at))
    };

    let mut preamble = Machine::new(false);
    let (protocol, after) = next(&mut preamble).map_err(fault)?;
    if !matches!(protocol, Value::Int(1001)) {
        return Err(fault(not_torch(after)));
    }
    let (system, _) = next(&mut preamble).map_err(fault)?;
    if is_big_endian(&preamble, &system) {
        return Err(fault(PickleFault::BigEndian));
    }

    let mut machine = Machine::new(false);
    let (root, _) = next(&mut machine).map_err(fault)?;
    let mut keys = Machine::new(false);
    let (order, data) = next(&mut keys).map_err(fault)?;
    let Value::List(order) = order else {
        return Err(fault(not_torch(data)));
    };

    let mut storages = Storages::new(&machine);
    let mut at = data;
    for key in keys.items(order) {
        let key = match key {
            Value::Str(key) => key.to_string(),
            Value::Int(key) => key.to_string(),
            _ => return Err(fault(not_torch(data))),
        };
        let declared = machine.storages().iter().position(|s| *s.key == *key);
        let Some(index) = declared else {
            return Err(fault(PickleFault::MissingStorage { key }));
        };
        let rest = bytes.slice(at..);
        let short = |expected: u64, got: usize| PickleFault::ShortStorage {
            key: key.clone(),
            expected,
            got: got as u64,
        };
        let Some((count, _)) = rest.split_first_chunk::<8>() else {
            return Err(fault(short(8, rest.len())));
        };
        let count = u64::from_le_bytes(*count);
        let size = match machine.storages()[index].element {
            Element::Known(dtype) => dtype.size(),
            Element::Unknown("complex64") => 8,
            Element::Unknown("complex128") => 16,
            Element::Unknown("qint32" | "uint32" | "complex32") => 4,
            Element::Unknown(_) | Element::Untyped => 1,
        };
        let len = count.saturating_mul(size as u64);
        if len > (rest.len() - 8) as u64 {
            return Err(fault(short(len, rest.len() - 8)));
        }
        let data = rest.slice(8..8 + len as usize);
        storages.supply(index, data).map_err(fault)?;
        at += 8 + len as usize;
    }
    let chosen = select::tensors(&machine, &root, key).map_err(fault)?;
    storages.resolve(path, chosen)
}

fn not_torch(at: usize) -> PickleFault {
    PickleFault::Invalid {
        at,
        fault: MachineFault::NotTorch,
    }
}

fn shifted(fault: PickleFault, by: usize) -> PickleFault {
    match fault {
        PickleFault::Invalid { at, fault } => PickleFault::Invalid { at: at + by, fault },
        other => other,
    }
}

fn is_big_endian(machine: &Machine, system: &Value) -> bool {
    let Value::Dict(id) = system else {
        return false;
    };
    machine.pairs(*id).iter().any(|(key, value)| {
        matches!(key, Value::Str(k) if &**k == "little_endian")
            && matches!(value, Value::Bool(false))
    })
}
