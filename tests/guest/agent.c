// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
/*
 * The guest's end of tests/vm, one static program in two roles:
 *
 *   agent PORT        PID 1 of the guest. Runs the commands that the runner on the host asks for
 *                     over the virtio-serial port PORT, several at once, and relays what
 *                     virgo-node asks for to the runner, which passes it to the other node.
 *   virgo-node …      (by its name) asks the agent of this guest to run a command on another node.
 *
 * Both hops speak the frames of tests/guest/vm/protocol.py: a header of three little-endian words
 * (length of what follows, channel, type), then the payload. A channel is one command. Data may be
 * sent ahead of its acknowledgement by WINDOW bytes a stream, so that a reader that is slow, or
 * stopped, holds up its own command and nothing else.
 *
 * The result does not come over the network, so it is there whatever a test does to the network.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define SOCKET_PATH "/run/virgo/agent.sock"
#define WINDOW (64u << 10)
#define CHUNK (16u << 10)
#define FRAME_MAX (256u << 10)
#define MAX_CHANNELS 512
#define STATUS_LOST 125 /* as tests/vm: there is no result */

enum frame_type {
	F_HELLO = 1, /* agent: here I am */
	F_OPEN, /* node, flags, rows, columns (words), then the arguments, each ended by a NUL */
	F_STDIN, /* data; none: end of file */
	F_SIGNAL, /* number (word): to the command's process group */
	F_WINCH, /* rows, columns (words) */
	F_ACK, /* bytes (word) of stdout and stderr that were consumed */
	F_STDOUT,
	F_STDERR,
	F_EXIT, /* exit status (word) */
	F_STDIN_ACK, /* bytes (word) of stdin that the command took */
	F_SYNC, /* text: to the kernel log */
};

enum { OPEN_TTY = 1, OPEN_STDIN = 2, OPEN_CONTROL = 4 };

struct buffer {
	char *data;
	size_t start, len, size;
};

struct header {
	uint32_t len, channel, type;
};

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "virgo-node: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(STATUS_LOST);
}

/* --- buffers and frames --- */

static void buffer_add(struct buffer *b, const void *data, size_t len)
{
	if (b->start) {
		memmove(b->data, b->data + b->start, b->len);
		b->start = 0;
	}
	if (b->size - b->len < len) {
		size_t size = (b->len + len) * 2;
		char *p = realloc(b->data, size);

		if (!p)
			die("out of memory");
		b->data = p;
		b->size = size;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void buffer_take(struct buffer *b, size_t len)
{
	b->start += len;
	b->len -= len;
	if (!b->len)
		b->start = 0;
}

static void buffer_free(struct buffer *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/* What can be written now; false once the other end is gone. */
static int buffer_write(struct buffer *b, int fd)
{
	while (b->len) {
		ssize_t n = write(fd, b->data + b->start, b->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		buffer_take(b, (size_t)n);
	}
	return 1;
}

static void frame_add(struct buffer *b, uint32_t channel, uint32_t type, const void *data, size_t len)
{
	struct header h = { (uint32_t)len, channel, type };

	buffer_add(b, &h, sizeof(h));
	if (len)
		buffer_add(b, data, len);
}

static void frame_add_word(struct buffer *b, uint32_t channel, uint32_t type, uint32_t word)
{
	frame_add(b, channel, type, &word, sizeof(word));
}

static uint32_t word_at(const char *data, size_t len, unsigned int index)
{
	uint32_t w = 0;

	if ((index + 1) * sizeof(w) <= len)
		memcpy(&w, data + index * sizeof(w), sizeof(w));
	return w;
}

/*
 * Reads once from fd and hands each whole frame to handle. False at the end of file, on an error,
 * or on a frame too large to be one.
 */
typedef void (*frame_handler)(void *context, struct header h, const char *data);

static int frames_read(int fd, struct buffer *in, frame_handler handle, void *context)
{
	char data[CHUNK];
	ssize_t n = read(fd, data, sizeof(data));
	struct header h;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return 0;
	buffer_add(in, data, (size_t)n);
	while (in->len >= sizeof(h)) {
		memcpy(&h, in->data + in->start, sizeof(h));
		if (h.len > FRAME_MAX)
			return 0;
		if (in->len < sizeof(h) + h.len)
			break;
		handle(context, h, in->data + in->start + sizeof(h));
		buffer_take(in, sizeof(h) + h.len);
	}
	return 1;
}

static void set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* --- the agent: commands --- */

/* A command that runs here. */
struct command {
	int used;
	uint32_t channel;
	pid_t pid; /* 0 once it is reaped */
	int tty;
	int in, out, err; /* our ends; -1 closed. With a terminal, in == out. */
	int in_eof; /* close in when stdin_data is written */
	struct buffer stdin_data;
	uint32_t unacked;
	uint32_t status;
	int left_out, left_err; /* bytes that were in the pipes when it ended */
};

/* A virgo-node on this guest; its channel on the port is its index. */
struct client {
	int used;
	int fd;
	int open_sent; /* the runner knows of it */
	int gone; /* hung up before the end: waits for the command's end, so as not to reuse the channel */
	struct buffer in, out;
};

static struct command commands[MAX_CHANNELS];
static struct client clients[MAX_CHANNELS];
static int port;
static struct buffer port_out;
static sigset_t original_mask;

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static struct command *command_find(uint32_t channel)
{
	for (int i = 0; i < MAX_CHANNELS; i++)
		if (commands[i].used && commands[i].channel == channel)
			return &commands[i];
	return NULL;
}

static void refuse(uint32_t channel, uint32_t status, const char *text)
{
	frame_add(&port_out, channel, F_STDERR, text, strlen(text));
	frame_add_word(&port_out, channel, F_EXIT, status);
}

static void set_winsize(int fd, uint32_t rows, uint32_t columns)
{
	struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

	if (rows && columns)
		ioctl(fd, TIOCSWINSZ, &w);
}

static void run_child(char **argv, int in, int out, int err, int tty)
{
	setsid();
	if (tty)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	closefrom(3);
	sigprocmask(SIG_SETMASK, &original_mask, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (chdir("/root"))
		chdir("/");
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	fflush(stderr);
	_exit(errno == ENOENT ? 127 : 126);
}

static void command_open(uint32_t channel, const char *data, size_t len)
{
	uint32_t flags = word_at(data, len, 1);
	char **argv;
	size_t argc = 0;
	struct command *c = NULL;
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 };

	/* An argument takes a byte at least. */
	argv = calloc(len + 1, sizeof(*argv));
	if (!argv) {
		refuse(channel, 126, "virgo-node: out of memory\n");
		return;
	}
	for (size_t at = 16; at < len;) {
		size_t n = strnlen(data + at, len - at);

		if (at + n == len)
			break; /* no NUL: not an argument */
		argv[argc++] = (char *)(uintptr_t)(data + at);
		at += n + 1;
	}
	if (!argc) {
		refuse(channel, 126, "virgo-node: no command\n");
		goto free_argv;
	}
	for (int i = 0; i < MAX_CHANNELS && !c; i++)
		if (!commands[i].used)
			c = &commands[i];
	if (!c) {
		refuse(channel, 126, "virgo-node: too many commands at once\n");
		goto free_argv;
	}
	memset(c, 0, sizeof(*c));
	c->channel = channel;
	c->tty = !!(flags & OPEN_TTY);
	c->in = c->out = c->err = -1;

	if (c->tty) {
		int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

		if (master < 0 || grantpt(master) || unlockpt(master) ||
		    (in[0] = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
			close_fd(&master);
			refuse(channel, 126, "virgo-node: no terminal to be had\n");
			goto free_argv;
		}
		set_winsize(master, word_at(data, len, 2), word_at(data, len, 3));
		c->in = c->out = master;
		out[1] = err[1] = in[0];
	} else {
		if ((flags & OPEN_STDIN ? pipe2(in, O_CLOEXEC) : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC))) < 0 ||
		    pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) {
			refuse(channel, 126, "virgo-node: no pipe to be had\n");
			goto close_all;
		}
		c->in = in[1];
		c->out = out[0];
		c->err = err[0];
	}
	c->pid = fork();
	if (c->pid == 0)
		run_child(argv, in[0], out[1], err[1], c->tty);
	if (c->pid < 0) {
		refuse(channel, 126, "virgo-node: cannot fork\n");
		c->in = c->out = c->err = -1;
		goto close_all;
	}
	c->used = 1;
	close_fd(&in[0]);
	if (!c->tty) {
		close_fd(&out[1]);
		close_fd(&err[1]);
		set_nonblocking(c->err);
	}
	set_nonblocking(c->out);
	if (c->in >= 0)
		set_nonblocking(c->in);
	goto free_argv;
close_all:
	for (int i = 0; i < 2; i++) {
		close_fd(&in[i]);
		close_fd(&out[i]);
		close_fd(&err[i]);
	}
free_argv:
	free(argv);
}

/*
 * One read of one stream, of at most limit bytes; how many there were. Zero when there is nothing
 * to be had now. Closes it at its end.
 */
static int command_read(struct command *c, int *fd, uint32_t type, int limit)
{
	char data[CHUNK];
	size_t room = WINDOW - c->unacked;
	ssize_t n;

	if (room > (size_t)limit)
		room = (size_t)limit;

	if (*fd < 0 || !room)
		return 0;
	do
		n = read(*fd, data, room < sizeof(data) ? room : sizeof(data));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) { /* a terminal's end is EIO */
		if (c->tty)
			c->in = -1;
		close_fd(fd);
		return 0;
	}
	frame_add(&port_out, c->channel, type, data, (size_t)n);
	c->unacked += (uint32_t)n;
	return (int)n;
}

static void command_write(struct command *c)
{
	size_t before = c->stdin_data.len;

	if (c->in < 0)
		return;
	if (!buffer_write(&c->stdin_data, c->in)) {
		/* The command no longer reads: what is left goes nowhere, and is said to be taken. */
		buffer_take(&c->stdin_data, c->stdin_data.len);
		if (!c->tty)
			close_fd(&c->in);
	}
	if (before > c->stdin_data.len)
		frame_add_word(&port_out, c->channel, F_STDIN_ACK, (uint32_t)(before - c->stdin_data.len));
	if (c->in_eof && !c->stdin_data.len && c->in >= 0) {
		if (!c->tty)
			close_fd(&c->in);
		c->in_eof = 0;
	}
}

/*
 * The command ended: what it wrote goes out (within the window), then its status. A process that
 * it left behind with the pipe open is not waited for, nor is what that one writes.
 */
static void command_finish(struct command *c)
{
	int n;

	while ((n = command_read(c, &c->out, F_STDOUT, c->left_out)))
		c->left_out -= n;
	while (!c->tty && (n = command_read(c, &c->err, F_STDERR, c->left_err)))
		c->left_err -= n;
	if (c->unacked >= WINDOW && (c->left_out || c->left_err))
		return; /* the rest when there is room for it */
	frame_add_word(&port_out, c->channel, F_EXIT, c->status);
	if (c->tty)
		c->in = -1;
	close_fd(&c->in);
	close_fd(&c->out);
	close_fd(&c->err);
	buffer_free(&c->stdin_data);
	c->used = 0;
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < MAX_CHANNELS; i++) {
			struct command *c = &commands[i];

			if (!c->used || c->pid != pid)
				continue;
			c->pid = 0;
			c->status = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) :
							128u + (uint32_t)WTERMSIG(status);
			if (c->out >= 0 && ioctl(c->out, FIONREAD, &c->left_out))
				c->left_out = (int)CHUNK;
			if (c->err >= 0 && ioctl(c->err, FIONREAD, &c->left_err))
				c->left_err = 0;
			command_finish(c);
		}
	}
}

/* --- the agent: the runner and the clients --- */

static void client_free(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	buffer_free(&c->in);
	buffer_free(&c->out);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static void kernel_log(const char *text, size_t len)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[256];
	int n = snprintf(line, sizeof(line), "<5>virgo-vm: %.*s\n", (int)(len < 200 ? len : 200), text);

	if (fd < 0)
		return;
	/* Where this fails, the runner misses the line in the log, and says so. */
	if (write(fd, line, (size_t)n) != n)
		fprintf(stderr, "agent: /dev/kmsg: %s\n", strerror(errno));
	close(fd);
}

static void from_runner(void *context, struct header h, const char *data)
{
	struct command *c;

	(void)context;
	switch (h.type) {
	case F_OPEN:
		command_open(h.channel, data, h.len);
		return;
	case F_SYNC:
		kernel_log(data, h.len);
		return;
	case F_STDOUT:
	case F_STDERR:
	case F_EXIT:
	case F_STDIN_ACK:
		/* For a virgo-node here, whose channel is its index. */
		if (h.channel < MAX_CHANNELS && clients[h.channel].used) {
			struct client *cl = &clients[h.channel];

			if (!cl->gone) {
				frame_add(&cl->out, 0, h.type, data, h.len);
				if (h.type == F_EXIT)
					cl->open_sent = 0;
				if (!buffer_write(&cl->out, cl->fd))
					buffer_take(&cl->out, cl->out.len);
			} else if (h.type == F_EXIT) {
				client_free(cl);
			} else if (h.type != F_STDIN_ACK) {
				frame_add_word(&port_out, h.channel, F_ACK, h.len);
			}
		}
		return;
	default:
		break;
	}
	c = command_find(h.channel);
	if (!c)
		return; /* it has ended meanwhile */
	switch (h.type) {
	case F_STDIN:
		if (h.len)
			buffer_add(&c->stdin_data, data, h.len);
		else
			c->in_eof = 1;
		if (c->in < 0 && h.len) {
			buffer_take(&c->stdin_data, c->stdin_data.len);
			frame_add_word(&port_out, c->channel, F_STDIN_ACK, h.len);
		}
		command_write(c);
		break;
	case F_SIGNAL:
		if (c->pid > 0)
			kill(-c->pid, (int)word_at(data, h.len, 0));
		break;
	case F_WINCH:
		if (c->tty && c->out >= 0)
			set_winsize(c->out, word_at(data, h.len, 0), word_at(data, h.len, 1));
		break;
	case F_ACK: {
		uint32_t n = word_at(data, h.len, 0);

		c->unacked = n < c->unacked ? c->unacked - n : 0;
		if (!c->pid)
			command_finish(c);
		break;
	}
	default:
		break;
	}
}

static void from_client(void *context, struct header h, const char *data)
{
	struct client *c = context;

	switch (h.type) {
	case F_OPEN:
		c->open_sent = 1;
		/* fall through */
	case F_STDIN:
	case F_SIGNAL:
	case F_WINCH:
	case F_ACK:
		frame_add(&port_out, (uint32_t)(c - clients), h.type, data, h.len);
		break;
	default:
		break;
	}
}

static void client_hung_up(struct client *c)
{
	if (!c->open_sent) {
		client_free(c);
		return;
	}
	/* Its command is of no use any more. */
	frame_add_word(&port_out, (uint32_t)(c - clients), F_SIGNAL, SIGKILL);
	close(c->fd);
	c->fd = -1;
	c->gone = 1;
	/* Nothing that it was sent and did not take will be acknowledged by it. */
	frame_add_word(&port_out, (uint32_t)(c - clients), F_ACK, WINDOW);
}

static void accept_client(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (int i = 0; i < MAX_CHANNELS; i++) {
		if (clients[i].used)
			continue;
		clients[i].used = 1;
		clients[i].fd = fd;
		return;
	}
	close(fd);
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 64))
		die("%s: %s", path, strerror(errno));
	return fd;
}

static void write_port(void)
{
	if (!buffer_write(&port_out, port))
		die("the port to the host is gone: %s", strerror(errno));
}

enum poll_kind { P_PORT, P_SIGNALS, P_LISTENER, P_IN, P_OUT, P_ERR, P_CLIENT };

struct poll_set {
	struct pollfd fds[3 + 4 * MAX_CHANNELS];
	struct { enum poll_kind kind; int index; } what[3 + 4 * MAX_CHANNELS];
	nfds_t n;
};

static void poll_add(struct poll_set *p, int fd, short events, enum poll_kind kind, int index)
{
	if (fd < 0)
		return;
	p->fds[p->n] = (struct pollfd){ .fd = fd, .events = events };
	p->what[p->n].kind = kind;
	p->what[p->n].index = index;
	p->n++;
}

static _Noreturn void serve(const char *port_path)
{
	static struct poll_set p;
	struct buffer port_in = { 0 };
	struct signalfd_siginfo info;
	int signals, listener;
	sigset_t mask;

	for (int i = 0; i < MAX_CHANNELS; i++)
		clients[i].fd = -1;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, &original_mask);
	signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	port = open(port_path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (signals < 0 || port < 0)
		die("%s: %s", port_path, strerror(errno));
	listener = listen_on(SOCKET_PATH);
	frame_add(&port_out, 0, F_HELLO, NULL, 0);

	for (;;) {
		int idle = port_out.len < 4 * FRAME_MAX;

		p.n = 0;
		poll_add(&p, port, (short)(POLLIN | (port_out.len ? POLLOUT : 0)), P_PORT, 0);
		poll_add(&p, signals, POLLIN, P_SIGNALS, 0);
		poll_add(&p, listener, POLLIN, P_LISTENER, 0);
		for (int i = 0; i < MAX_CHANNELS; i++) {
			struct command *c = &commands[i];
			struct client *cl = &clients[i];

			if (c->used && c->stdin_data.len)
				poll_add(&p, c->in, POLLOUT, P_IN, i);
			if (c->used && c->pid && idle && c->unacked < WINDOW) {
				poll_add(&p, c->out, POLLIN, P_OUT, i);
				if (!c->tty)
					poll_add(&p, c->err, POLLIN, P_ERR, i);
			}
			if (cl->used && !cl->gone)
				poll_add(&p, cl->fd, (short)((idle ? POLLIN : 0) | (cl->out.len ? POLLOUT : 0)),
					 P_CLIENT, i);
		}
		if (poll(p.fds, p.n, -1) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		for (nfds_t i = 0; i < p.n; i++) {
			short events = p.fds[i].revents;
			struct command *c = &commands[p.what[i].index];
			struct client *cl = &clients[p.what[i].index];

			if (!events)
				continue;
			switch (p.what[i].kind) {
			case P_PORT:
				if ((events & POLLIN) && !frames_read(port, &port_in, from_runner, NULL))
					die("the port to the host is gone");
				break;
			case P_SIGNALS:
				while (read(signals, &info, sizeof(info)) > 0)
					;
				reap();
				break;
			case P_LISTENER:
				accept_client(listener);
				break;
			case P_IN:
				if (c->used)
					command_write(c);
				break;
			case P_OUT:
				if (c->used && c->pid)
					command_read(c, &c->out, F_STDOUT, CHUNK);
				break;
			case P_ERR:
				if (c->used && c->pid)
					command_read(c, &c->err, F_STDERR, CHUNK);
				break;
			case P_CLIENT:
				if (!cl->used || cl->gone)
					break;
				if (events & POLLOUT)
					buffer_write(&cl->out, cl->fd);
				if ((events & (POLLIN | POLLHUP | POLLERR)) &&
				    !frames_read(cl->fd, &cl->in, from_client, cl))
					client_hung_up(cl);
				break;
			}
		}
		write_port();
	}
}

/* --- virgo-node --- */

static const char usage[] =
	"Usage: virgo-node [-i] K COMMAND [ARG...]   run COMMAND as root on node K; -i passes stdin\n"
	"       virgo-node K --kill                  cut node K's power\n"
	"       virgo-node K --start                 boot it again, with its disk as it was left\n"
	"       virgo-node K --stop | --cont         freeze node K, its clock too; go on\n"
	"       virgo-node K --status                running, stopped or down\n"
	"       virgo-node --list                    the nodes and their status\n"
	"The exit status is COMMAND's own; 125 where there is none (the node is down).\n";

struct node_client {
	int fd;
	struct buffer out;
	int status; /* -1 until it came */
	uint32_t stdin_unacked;
};

static void write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			exit(errno == EPIPE ? 128 + SIGPIPE : STATUS_LOST);
		data += n;
		len -= (size_t)n;
	}
}

static void to_client(void *context, struct header h, const char *data)
{
	struct node_client *c = context;

	switch (h.type) {
	case F_STDOUT:
	case F_STDERR:
		write_all(h.type == F_STDOUT ? 1 : 2, data, h.len);
		frame_add_word(&c->out, 0, F_ACK, h.len);
		break;
	case F_STDIN_ACK:
		c->stdin_unacked -= word_at(data, h.len, 0);
		break;
	case F_EXIT:
		c->status = (int)(word_at(data, h.len, 0) & 0xff);
		break;
	default:
		break;
	}
}

static int usage_error(void)
{
	fputs(usage, stderr);
	return 2;
}

static int virgo_node(int argc, char **argv)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = SOCKET_PATH };
	struct node_client c = { .status = -1 };
	struct buffer in = { 0 }, request = { 0 };
	uint32_t open_words[4] = { 0 };
	int at = 1, stdin_open;
	char *end;

	if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		open_words[1] = OPEN_CONTROL;
	} else {
		if (at < argc && !strcmp(argv[at], "-i")) {
			open_words[1] |= OPEN_STDIN;
			at++;
		}
		if (argc - at < 2)
			return usage_error();
		open_words[0] = (uint32_t)strtoul(argv[at], &end, 10);
		if (*end || end == argv[at] || !open_words[0])
			return usage_error();
		at++;
		if (!strcmp(argv[at], "--"))
			at++;
		else if (argv[at][0] == '-')
			open_words[1] = OPEN_CONTROL;
		if (at == argc)
			return usage_error();
	}
	signal(SIGPIPE, SIG_IGN);
	c.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c.fd < 0 || connect(c.fd, (struct sockaddr *)&a, sizeof(a)))
		die("%s: %s", SOCKET_PATH, strerror(errno));
	buffer_add(&request, open_words, sizeof(open_words));
	for (int i = at; i < argc; i++)
		buffer_add(&request, argv[i], strlen(argv[i]) + 1);
	if (request.len > FRAME_MAX)
		die("the arguments are too long");
	frame_add(&c.out, 0, F_OPEN, request.data, request.len);

	stdin_open = !!(open_words[1] & OPEN_STDIN);
	while (c.status < 0) {
		struct pollfd p[2] = { { .fd = c.fd, .events = POLLIN },
				       { .fd = stdin_open && c.stdin_unacked < WINDOW ? 0 : -1, .events = POLLIN } };

		if (c.out.len && !buffer_write(&c.out, c.fd))
			die("the agent is gone: %s", strerror(errno));
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		if (p[0].revents && !frames_read(c.fd, &in, to_client, &c))
			die("the agent is gone");
		if (p[1].revents) {
			char data[CHUNK];
			ssize_t n = read(0, data, sizeof(data));

			if (n < 0 && errno != EINTR && errno != EAGAIN)
				n = 0;
			if (n >= 0) {
				frame_add(&c.out, 0, F_STDIN, data, (size_t)n);
				c.stdin_unacked += (uint32_t)n;
				stdin_open = n > 0;
			}
		}
	}
	return c.status;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	name = name ? name + 1 : argv[0];
	if (!strcmp(name, "virgo-node"))
		return virgo_node(argc, argv);
	if (argc != 2) {
		fprintf(stderr, "Usage: agent PORT\n");
		return 2;
	}
	serve(argv[1]);
}
