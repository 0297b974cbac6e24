// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo learn`: what settings should be, from what was seen. Advice, unless told to set it.

mod faults;
mod forecast;
mod guard;
mod load;
mod sources;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{json, Value as Json};
use virgo::analytics::{Analytics, Options, Source};
use virgo::eventnet::Eventnet;

use crate::cli::learn as cli;
use crate::text;

/// What was learnt.
struct Advice {
    /// What was seen, a line each.
    saw: Vec<String>,
    /// The same, for programs.
    seen: Json,
    /// What would be set: the setting, its value, and why. None: nothing follows from it.
    set: Option<(String, String, String)>,
    /// Make a setting that is not there.
    create: bool,
    /// How sure it is, 0 to 1.
    confidence: f64,
    /// What that rests on.
    basis: String,
    /// What virgo-eventnet is told of when it is set: names of events, who partakes, what of.
    events: Vec<[String; 3]>,
}

/// Text as a name in an event: what separates names there becomes `_`.
fn event_name(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| match c {
            '-' | '#' | ',' | '(' | ')' => '_',
            c if c.is_whitespace() || c.is_control() => '_',
            c => c,
        })
        .take(40)
        .collect();
    if name.is_empty() {
        "_".into()
    } else {
        name
    }
}

/// Tells virgo-eventnet; how many events it has taken. That it is not loaded is no failure.
fn raise(advice: &Advice) -> usize {
    let Ok(eventnet) = Eventnet::open() else {
        return 0;
    };
    let told = advice.events.iter().filter(|[name, who, what]| {
        let message = format!("eventnet_vertexmsg#{name}#{who}#{what}#");
        match eventnet.log(&message) {
            Ok(_) => true,
            Err(error) => {
                text::remark(&error.to_string());
                false
            }
        }
    });
    told.count()
}

pub(crate) fn run(command: cli::Learn, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        cli::Learn::Sources { files, top, how } => {
            act(&sources::learn(&files, top as usize)?, &how, json)
        }
        cli::Learn::Load {
            history,
            seconds,
            ahead,
            how,
        } => {
            let advice = load::learn(history.as_deref(), seconds, ahead as usize)?;
            act(&advice, &how, json)
        }
        cli::Learn::Faults {
            samples,
            score,
            how,
        } => act(&faults::learn(&samples, score)?, &how, json),
    }
}

fn print(advice: &Advice, applied: bool, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let set = advice
            .set
            .as_ref()
            .map(|(key, value, why)| json!({ "key": key, "value": value, "why": why }));
        let shown = json!({
            "saw": advice.seen, "set": set, "confidence": advice.confidence,
            "basis": advice.basis, "applied": applied,
        });
        writeln!(out, "{shown}")?;
    } else {
        for line in &advice.saw {
            writeln!(out, "{line}")?;
        }
        match &advice.set {
            Some((key, value, why)) => {
                let verb = if applied { "set" } else { "would set" };
                writeln!(out, "{verb} {key} to {value:?}: {why}")?;
            }
            None => writeln!(out, "would set nothing")?,
        }
        let percent = advice.confidence * 100.0;
        writeln!(out, "confidence {percent:.0} %: {}", advice.basis)?;
        if !applied && advice.set.is_some() {
            writeln!(out, "this is advice; --apply sets it")?;
        }
    }
    out.flush()
}

/// Says what was learnt, and sets it if that is wanted.
fn act(advice: &Advice, how: &cli::How, json: bool) -> anyhow::Result<ExitCode> {
    let (Some((key, value, why)), true) = (&advice.set, how.apply) else {
        print(advice, false, json)?;
        return Ok(ExitCode::SUCCESS);
    };
    let settings = Analytics::open()?;
    let expires = Duration::from_secs(how.expires.into());
    let why = format!("virgo learn, {:.0} %: {why}", advice.confidence * 100.0);
    let options = Options {
        source: Source::Learner,
        why: &why,
        ttl: Some(expires),
        create: advice.create,
        ..Options::default()
    };
    if !advice.events.is_empty() {
        let told = raise(advice);
        if !json {
            let events = text::plural(told as u64, "event");
            text::remark(&format!("told virgo-eventnet of {events}"));
        }
    }
    if let Some(measure) = how.guard {
        print(advice, true, json)?;
        return guard::hold(&settings, key, value, &options, measure, how.worse);
    }
    settings.set(key, value, &options)?;
    print(advice, true, json)?;
    if !json {
        text::remark(&format!(
            "the kernel takes {key} back in {} s; \"virgo analytics unset\" is not needed",
            how.expires
        ));
    }
    Ok(ExitCode::SUCCESS)
}
