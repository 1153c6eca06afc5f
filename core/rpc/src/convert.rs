//! Messages to the gateways' types and back; what comes from outside is checked.

use millstream_gateway::{
    FileInfo, HostExit, StartHost, TaskManagerHeartbeat, TaskManagerRegistration,
};
use millstream_protocol::{CLUSTER_PROTOCOL, cluster};
use millstream_types::{
    ByteSize, CauseKind, FailureCause, HostId, ResourceProfile, TaskManagerId, Timestamp,
};

const NAME_BYTES_MAX: usize = 256;
const SLOTS_MAX: u32 = 65_536;

pub(crate) fn register(registration: TaskManagerRegistration) -> cluster::Register {
    cluster::Register {
        major: CLUSTER_PROTOCOL.major,
        minor: CLUSTER_PROTOCOL.minor,
        task_manager_id: registration.id.to_string(),
        address: registration.address,
        data_port: registration.data_port.into(),
        slots: registration.slots,
        cpu_cores_per_slot: registration.slot_profile.cpu_cores,
        memory_per_slot: registration.slot_profile.memory.as_bytes(),
        memory_process: registration.memory_process.as_bytes(),
        cpu_cores: registration.cpu_cores,
        physical_memory: registration.physical_memory.as_bytes(),
        pid: registration.pid,
    }
}

/// The registration, or why it is refused.
pub(crate) fn registration(register: cluster::Register) -> Result<TaskManagerRegistration, String> {
    let cluster::Register { major, minor, .. } = register;
    if major != CLUSTER_PROTOCOL.major {
        return Err(format!(
            "it speaks version {major}.{minor} of the cluster protocol, the JobManager speaks \
             {CLUSTER_PROTOCOL}: run the same version of millstream on both"
        ));
    }
    let name = |what: &str, text: &str| match text.len() {
        1..=NAME_BYTES_MAX if !text.chars().any(char::is_control) => Ok(()),
        _ => Err(format!("its {what} is empty, too long or not plain text")),
    };
    name("name", &register.task_manager_id)?;
    name("address", &register.address)?;
    if register.slots == 0 || register.slots > SLOTS_MAX {
        return Err(format!("it offers {} slots", register.slots));
    }
    let cpu_cores = register.cpu_cores_per_slot;
    if !(cpu_cores.is_finite() && cpu_cores >= 0.0) {
        return Err(format!("its slots have {cpu_cores} cores"));
    }
    let data_port = u16::try_from(register.data_port)
        .map_err(|_| format!("its data port is {}", register.data_port))?;
    Ok(TaskManagerRegistration {
        id: TaskManagerId::new(register.task_manager_id),
        address: register.address,
        data_port,
        slots: register.slots,
        slot_profile: ResourceProfile {
            cpu_cores,
            memory: ByteSize::from_bytes(register.memory_per_slot),
        },
        memory_process: ByteSize::from_bytes(register.memory_process),
        cpu_cores: register.cpu_cores,
        physical_memory: ByteSize::from_bytes(register.physical_memory),
        pid: register.pid,
    })
}

pub(crate) fn heartbeat(message: &cluster::TaskManagerHeartbeat) -> TaskManagerHeartbeat {
    TaskManagerHeartbeat {
        resident_memory: ByteSize::from_bytes(message.resident_memory),
        hosts_memory: ByteSize::from_bytes(message.hosts_memory),
        free_memory: ByteSize::from_bytes(message.free_memory),
        cpu_time_ms: message.cpu_time_ms,
    }
}

pub(crate) fn start_host(start: StartHost) -> cluster::StartHost {
    cluster::StartHost {
        host_id: start.host.as_bytes().to_vec(),
        sha256: start.artifact.to_string(),
        artifact_size: start.artifact_size,
        begin: Some(start.begin),
        slots: start.slots,
    }
}

pub(crate) fn host_exit(host: HostId, exited: cluster::HostExited) -> HostExit {
    let cause = exited.cause.unwrap_or_default();
    let kind = CauseKind::from_name(&cause.kind).unwrap_or(CauseKind::Exit);
    HostExit {
        host,
        cause: FailureCause::new(kind, cause.message).with_detail(cause.detail),
        stderr_tail: exited.stderr_tail,
    }
}

pub(crate) fn file_info(file: cluster::FileInfo) -> FileInfo {
    FileInfo {
        name: file.name,
        size: file.size,
        modified: Timestamp::from_millis(file.modified_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> TaskManagerRegistration {
        TaskManagerRegistration {
            id: TaskManagerId::new("tm-1"),
            address: "localhost".to_owned(),
            data_port: 0,
            slots: 2,
            slot_profile: ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(512) },
            memory_process: ByteSize::from_mib(1728),
            cpu_cores: 2,
            physical_memory: ByteSize::from_mib(8192),
            pid: 7,
        }
    }

    #[test]
    fn a_registration_survives_the_way() {
        assert_eq!(registration(register(good())), Ok(good()));
    }

    #[test]
    fn a_bad_registration_is_refused_with_the_reason() {
        type Change = fn(&mut cluster::Register);
        let cases: [(Change, &str); 7] = [
            (|it| it.major = 9, "speaks version 9.0 of the cluster protocol"),
            (|it| it.task_manager_id.clear(), "its name is empty"),
            (|it| it.task_manager_id = "x".repeat(300), "its name is empty, too long"),
            (|it| it.address = "a\nb".to_owned(), "its address"),
            (|it| it.slots = 0, "offers 0 slots"),
            (|it| it.cpu_cores_per_slot = f64::NAN, "NaN cores"),
            (|it| it.data_port = 70_000, "data port is 70000"),
        ];
        for (change, sentence) in cases {
            let mut message = register(good());
            change(&mut message);
            let refused = registration(message).unwrap_err();
            assert!(refused.contains(sentence), "{refused}");
        }
    }
}
