/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VIRGO: what modules/lib/listener.rs needs of sockets and can't have from
 * Rust: the layout of struct sock, its locks (macros and inlines), and
 * sockaddr by family. Everything else of the listener is Rust.
 *
 * Linked into virgo-core and exported in namespace "VIRGO".
 */
#ifndef _VIRGO_SHIM_LISTENER_H
#define _VIRGO_SHIM_LISTENER_H

#include <linux/types.h>

struct socket;
struct sock;
struct kvec;
struct page;

/**
 * struct virgo_addr - an address and a port of either family.
 * @family: 4 or 6.
 * @port: in host order.
 * @scope: the interface index of a link-local IPv6 address, else 0.
 * @ip: the address in network order; IPv4 in the first four bytes.
 */
struct virgo_addr {
	u16 family;
	u16 port;
	u32 scope;
	u8 ip[16];
};

/**
 * struct virgo_sock_hook - where a socket's callbacks go.
 * @event: called with BHs off under the read side of sk_callback_lock, in
 *	softirq or in process context; must not sleep.
 */
struct virgo_sock_hook {
	void (*event)(struct virgo_sock_hook *hook);
};

/**
 * struct virgo_sock_saved - the callbacks that were there before ours.
 */
struct virgo_sock_saved {
	void (*data_ready)(struct sock *sk);
	void (*write_space)(struct sock *sk);
	void (*state_change)(struct sock *sk);
};

/* What the receive functions say beside their bytes. */
#define VIRGO_SOCK_ENDING	1	/* FIN, reset or error: look with recv() */

int virgo_sock_listen(const struct virgo_addr *addr, int backlog,
		      struct socket **out);
int virgo_sock_accept(struct socket *listener, unsigned int send_buffer,
		      struct virgo_addr *peer, struct socket **out);
int virgo_sock_connect(const struct virgo_addr *addr,
		       const struct virgo_addr *from, unsigned int connect_ms,
		       unsigned int io_ms, struct socket **out);
void virgo_sock_free(struct socket *sock);
int virgo_sock_local(struct socket *sock, struct virgo_addr *addr);
int virgo_sock_shutdown(struct socket *sock, int how);

void virgo_sock_attach_listener(struct socket *sock,
				struct virgo_sock_hook *hook,
				struct virgo_sock_saved *saved);
void virgo_sock_attach(struct socket *sock, struct virgo_sock_hook *hook,
		       const struct virgo_sock_saved *listener,
		       struct virgo_sock_saved *saved);
void virgo_sock_detach(struct socket *sock,
		       const struct virgo_sock_saved *saved);

int virgo_sock_ending(struct socket *sock);
u64 virgo_sock_since_segment_ns(struct socket *sock);
long virgo_sock_recv(struct socket *sock, void *buf, size_t len, int flags,
		     u32 *status);
long virgo_sock_send(struct socket *sock, struct kvec *vec, size_t n,
		     size_t len, int flags);
long virgo_sock_send_pages(struct socket *sock, struct page *page, size_t from,
			   size_t len, int flags);
struct page *virgo_message_alloc(size_t size, u8 **data, size_t *room);
void virgo_message_free(struct page *page);
bool virgo_message_idle(struct page *page);
long virgo_sock_recv_bh(struct socket *sock, void *buf, size_t len,
			u32 *status);
long virgo_sock_send_bh(struct socket *sock, struct kvec *vec, size_t n,
			size_t len);
#endif
