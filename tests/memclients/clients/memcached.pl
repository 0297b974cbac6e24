# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
# Uses a memcached by way of Cache::Memcached, and says what it answers.
use strict;
use warnings;
use Cache::Memcached;

$| = 1;
my $cache = Cache::Memcached->new({
    servers            => ["127.0.0.1:$ARGV[0]"],
    compress_threshold => 10_000,
    connect_timeout    => 60,
    select_timeout     => 60,
});

sub show { print join(' ', map { defined $_ ? $_ : 'undef' } @_), "\n" }

$cache->flush_all;
show('set', $cache->set('text', 'hello'), $cache->get('text'));
show('add', $cache->add('text', 'no'), $cache->add('new', 'yes'), $cache->get('new'));
show('replace', $cache->replace('new', 'again'), $cache->replace('absent', 'no'), $cache->get('new'));
show('append', $cache->append('new', '!'), $cache->prepend('new', '-'), $cache->get('new'));
$cache->set("m$_", $_ * $_) for 1 .. 100;
my $many = $cache->get_multi(map { "m$_" } 1 .. 110);
show('many', map { "$_=$many->{$_}" } sort keys %$many);
show('number', $cache->set('n', 41), $cache->incr('n'), $cache->decr('n', 2), $cache->decr('n', 99));
show('nothing', $cache->incr('absent'), $cache->get('absent'));
$cache->set('object', { a => [1, 2, { b => 'c' }] });
show('object', $cache->get('object')->{a}[2]{b});
my $big = 'abc' x 100_000;
show('big', $cache->set('big', $big), $cache->get('big') eq $big);
show('binary', $cache->set('bin', "\0\r\nEND\r\n\xff"), $cache->get('bin') eq "\0\r\nEND\r\n\xff");
show('delete', $cache->delete('text'), $cache->delete('text'), $cache->get('text'));
show('time', $cache->set('mortal', 'v', 1000), $cache->get('mortal'), $cache->set('dead', 'v', -1), $cache->get('dead'));
show('empty', $cache->set('empty', ''), length $cache->get('empty'));
my $stats = $cache->stats(['misc']);
my ($own) = values %{ $stats->{hosts} };
show('stats', grep { exists $own->{misc}{$_} } qw(curr_items cmd_get get_hits bytes limit_maxbytes));
$cache->flush_all;
show('flushed', $cache->get('new'));
show('done');
