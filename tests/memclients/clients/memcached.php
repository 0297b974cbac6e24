<?php
// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
// Uses a memcached by way of PHP's extension memcached, and says what it answers.

$cache = new Memcached();
$cache->setOption(Memcached::OPT_BINARY_PROTOCOL, false);
$cache->addServer('127.0.0.1', (int) $argv[1]);

function show(...$what)
{
    echo json_encode($what), "\n";
}

$cache->flush();
show('set', $cache->set('text', 'hello'), $cache->get('text'));
show('add', $cache->add('text', 'no'), $cache->getResultMessage(), $cache->add('new', 'yes'));
show('replace', $cache->replace('new', 'again'), $cache->replace('absent', 'no'), $cache->getResultMessage());
$cache->setOption(Memcached::OPT_COMPRESSION, false);
show('append', $cache->append('new', '!'), $cache->prepend('new', '-'), $cache->get('new'));
$many = [];
for ($n = 0; $n < 100; $n++) {
    $many["m$n"] = $n * $n;
}
show('many', $cache->setMulti($many), $cache->getMulti(array_merge(array_keys($many), ['absent'])));
show('number', $cache->set('n', 41), $cache->increment('n'), $cache->decrement('n', 2), $cache->decrement('n', 99));
show('nothing', $cache->increment('absent'), $cache->getResultMessage(), $cache->get('absent'), $cache->getResultCode());
show('object', $cache->set('object', ['a' => [1, 2.5, null]]), $cache->get('object'));
$found = $cache->get('new', null, Memcached::GET_EXTENDED);
show('cas', $cache->cas($found['cas'], 'new', 'by cas'), $cache->get('new'));
show('cas', $cache->cas($found['cas'], 'new', 'too late'), $cache->getResultMessage(), $cache->get('new'));
show('touch', $cache->touch('new', 1000), $cache->touch('absent', 1000), $cache->getResultMessage());
show('delete', $cache->delete('text'), $cache->delete('text'), $cache->getResultMessage());
$big = str_repeat('x', 900000);
show('big', $cache->set('big', $big), $cache->get('big') === $big);
show('too big', $cache->set('huge', str_repeat('x', 2000000)), $cache->getResultMessage());
show('after that', $cache->set('still', 'here'), $cache->get('still'));
show('binary', $cache->set('bin', "\0\r\nEND\r\n\xff"), $cache->get('bin') === "\0\r\nEND\r\n\xff");
show('dead', $cache->set('dead', 'v', -1), $cache->get('dead'));
$stats = current($cache->getStats());
show('stats', array_values(array_intersect(['curr_items', 'cmd_get', 'get_hits', 'bytes'], array_keys($stats))));
show('flush', $cache->flush(), $cache->get('new'), $cache->getResultMessage());
echo "done\n";
