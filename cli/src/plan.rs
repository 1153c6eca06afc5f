//! `info`: the plan of a program, without a cluster.

use std::process::ExitCode;

use anyhow::{Result, bail};
use millstream_config::options;
use millstream_graph::{JobGraph, plan_info, plan_text};
use millstream_launcher::ProgramEvent;
use millstream_protocol::host::Role;
use millstream_types::JobId;

use crate::arguments::InfoArguments;
use crate::{console, program, runtime, settings};

/// Shows the plan of the program's first `execute`.
pub(crate) fn info(arguments: &InfoArguments) -> Result<ExitCode> {
    let configuration = settings::load(&arguments.properties)?;
    let settings =
        settings::job_settings(&configuration, &arguments.properties, &arguments.program)?;
    let (artifact, _) = arguments.program.split();
    let timeout = configuration.get(&options::PLAN_TIMEOUT)?;
    let graph = runtime()?.block_on(async {
        let mut program = program::start(&artifact, Role::Plan, &settings, timeout).await?;
        match program.next().await {
            ProgramEvent::Planned(graph) => Ok(JobGraph::try_from(*graph)?),
            ProgramEvent::Failed(error) => Err(error.into()),
            ProgramEvent::Interrupted => bail!("the program was interrupted"),
            ProgramEvent::Finished | ProgramEvent::Asked(_) | ProgramEvent::Ended => {
                bail!("the program has no plan")
            }
        }
    })?;
    if arguments.json {
        // The plan of a job that is not submitted has no id yet.
        // Fields by name, as REST sends them.
        let plan = serde_json::to_value(plan_info(&graph, JobId::from_u128(0)))?;
        console::print(format_args!("{:-^62}\n{plan}\n{:-^62}", " Execution Plan ", ""));
    } else {
        console::print(format_args!("{}", plan_text(&graph).trim_end()));
    }
    Ok(ExitCode::SUCCESS)
}
