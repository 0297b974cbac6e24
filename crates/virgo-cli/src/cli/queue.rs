// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command line of `virgo queue`.

use clap::{Args, Subcommand, ValueEnum};

/// Shown by `virgo queue --help`.
pub(crate) const EXAMPLES: &str = "Examples:\n\n\
  virgo queue put mail 'to: somebody'         put a request into the tube mail\n\
  virgo queue take mail                       take the next one, and be done with it\n\
  virgo queue take mail --wait 60 -- sendmail -t\n\
  \u{20}                                           give it to a command; done with if that succeeds\n\
  virgo queue take work --reply -- ./worker   what it prints is the answer\n\
  virgo queue result 17 --wait 60             the answer to request 17\n\
  virgo queue ls                              the tubes\n\
  virgo queue export > requests.jsonl         all requests, a JSON line each\n\n\
Any client of beanstalkd's, at port 60000, sees the same. doc/queue.md is the guide.";

#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// Put a request; prints its number
    ///
    /// The request is DATA, or else standard input.
    #[command(after_long_help = "Examples:\n\n\
      virgo queue put mail 'to: somebody'\n\
      tar c photos | virgo queue put backup --pri 0 --ttr 600")]
    Put(Put),
    /// Take a request; print it, or give it to a command
    ///
    /// It is done with when it is printed, or when the command succeeds; if that fails, it goes
    /// back. Exits with 1 if there is none.
    #[command(after_long_help = "Examples:\n\n\
      virgo queue take mail\n\
      virgo queue take mail --wait 60 -- sh -c 'cat > mail.txt'")]
    Take(Take),
    /// List the tubes
    #[command(after_long_help = "Example:\n\n  virgo queue ls --json | jq -r '.[].tube'")]
    Ls,
    /// Show what the queue holds
    #[command(after_long_help = "Examples:\n\n  virgo queue stat\n  virgo queue stat mail --json")]
    Stat {
        /// Of this tube alone
        tube: Option<String>,
    },
    /// Print requests as they are put, without taking them
    #[command(after_long_help = "Example:\n\n  virgo queue tail mail")]
    Tail {
        /// Of this tube alone
        tube: Option<String>,
        /// End after so many
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<u64>,
    },
    /// Print the answer to a request
    ///
    /// Exits with 1 if there is none. Of a program ("virgo exec --async") the output, error output and
    /// status are its own, as with "virgo exec".
    #[command(after_long_help = "Example:\n\n  virgo queue result 17 --wait 60")]
    Result {
        /// The request's number
        id: u64,
        /// Wait for it, so many seconds at most
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u32,
    },
    /// Show what is set for a tube, or set it
    ///
    /// What is not given stays as it is.
    #[command(after_long_help = "Examples:\n\n\
      virgo queue set mail                        show it\n\
      virgo queue set mail --limit 1000 --tries 5\n\
      virgo queue set orders --copy audit --copy billing\n\
      virgo queue set scratch --keep none\n\
      virgo queue set mail --clear")]
    Set(Set),
    /// Take in no more requests, or (--end) do again
    #[command(after_long_help = "Example:\n\n  sudo virgo queue drain && virgo queue stat")]
    Drain {
        /// Take requests in again
        #[arg(long)]
        end: bool,
    },
    /// Print all requests, a JSON line each, for other systems
    ///
    /// The body is in "text" where it is UTF-8, else in "base64". Nothing is taken.
    #[command(after_long_help = "Examples:\n\n\
      virgo queue export mail | kcat -P -b broker -t mail\n\
      virgo queue export --kingcobra > /var/log/kingcobra/REQUEST_REPLY.queue")]
    Export {
        /// Of this tube alone
        tube: Option<String>,
        /// The requests of the tube kingcobra in the original's text form: records of 256 bytes
        #[arg(long, conflicts_with = "tube")]
        kingcobra: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The tube
    pub(crate) tube: String,
    /// The request; else standard input
    pub(crate) data: Option<String>,
    /// The smaller, the sooner
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) pri: u32,
    /// Seconds until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) delay: u32,
    /// Seconds that who takes it has
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) ttr: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The tube
    pub(crate) tube: String,
    /// The most requests it holds; 0: the module's limit
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// A request that was taken so often and comes back goes to TUBE.dead; 0: never
    #[arg(long, value_name = "N")]
    pub(crate) tries: Option<u32>,
    /// How its requests are kept over a power cut; needs the module's log
    #[arg(long, value_enum)]
    pub(crate) keep: Option<Keep>,
    /// A tube that gets a copy of each request; may be given 16 times
    #[arg(long = "copy", value_name = "TUBE")]
    pub(crate) copies: Vec<String>,
    /// Nothing is set, but for what is given here
    #[arg(long)]
    pub(crate) clear: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Keep {
    /// As the module's setting says
    Default,
    /// Not at all
    None,
    /// In the log, but nobody waits for the disk
    Later,
    /// On the disk before they are acknowledged
    Always,
}

#[derive(Debug, Args)]
pub(crate) struct Take {
    /// The tube
    pub(crate) tube: String,
    /// Wait for one, so many seconds at most
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u32>,
    /// What the command prints is the answer, for "virgo queue result"
    #[arg(long, requires = "command")]
    pub(crate) reply: bool,
    /// Gets the request as its standard input
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<std::ffi::OsString>,
}
