package aiopool

// #include <aiopool.h>
// #include <time.h>
import "C"

import (
	"context"
	"reflect"
	"time"
)

// Each is what a worker came to that ran a function for Broadcast.
type Each struct {
	Output []byte
	Err    error
}

// Broadcast runs a function once on every worker, and waits for what each came to, by their seats: to
// warm a cache, to change a key, to collect a number. A worker that starts later does not run it. At
// the end of ctx the tasks that have begun are cancelled, and the error is the context's.
func (p *Pool) Broadcast(ctx context.Context, function string, input []byte) ([]Each, error) {
	return p.BroadcastWith(ctx, function, input, CallOptions{})
}

// BroadcastWith is Broadcast with a RunLimit for each worker; it has no other options.
func (p *Pool) BroadcastWith(ctx context.Context, function string, input []byte, o CallOptions) ([]Each, error) {
	if !reflect.DeepEqual(o, CallOptions{RunLimit: o.RunLimit}) {
		return nil, &PoolError{int32(C.AIOPOOL_ERR_INVALID), "a broadcast has no option but RunLimit: " +
			"it runs its function once on each worker as soon as that comes round to it"}
	}
	t := &Task{data: bytesAt(input), size: len(input), with: o, broadcast: true}
	p.submit(ctx, function, t)
	select {
	case <-t.done:
	case <-ctx.Done():
		// A worker that is busy is not waited for, as nobody can cancel what it has not begun.
		p.lock.Lock()
		defer p.lock.Unlock()
		if !t.submitted {
			p.refuse(t, ctx.Err())
		}
		for i := range t.ends {
			if p.tasks[t.key] == t {
				C.aiopool_pool_cancel(p.pool, t.ticket+C.uint64_t(i))
			}
		}
		return nil, ctx.Err()
	}
	if t.end.err != nil {
		return nil, t.end.err
	}
	all := make([]Each, len(t.ends))
	for seat, end := range t.ends {
		all[seat] = Each{end.output, end.err}
	}
	return all, nil
}

// starting is a wait until every worker can take tasks; err is there when done is closed.
type starting struct {
	done chan struct{}
	err  error
}

// Ready waits until every worker can take tasks, or says why they cannot. Tasks may be submitted
// before: it is for a program that is to say that it is ready, or to fail at its start and not at its
// first task. The goroutines that wait at the same time share one thread.
func (p *Pool) Ready(ctx context.Context) error {
	p.lock.Lock()
	if p.closed || p.broken != nil {
		defer p.lock.Unlock()
		return p.gone()
	}
	wait := p.starting
	if wait == nil {
		wait = &starting{done: make(chan struct{})}
		p.starting = wait
		go func() {
			wait.err = call(func() C.aiopool_status { return C.aiopool_pool_ready(p.pool, C.AIOPOOL_FOREVER) })
			p.lock.Lock()
			p.starting = nil
			if wait.err != nil && p.closed {
				// It may have been freed meanwhile.
				wait.err = p.gone()
			}
			p.lock.Unlock()
			close(wait.done)
		}()
	}
	p.lock.Unlock()
	select {
	case <-wait.done:
		return wait.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gone is why a pool takes no calls any more. With the lock.
func (p *Pool) gone() error {
	if p.broken != nil {
		return p.broken
	}
	return ErrClosed
}

// ExtendDeadline has the workers be killed that long from now, and not when the pool's Deadline said.
func (p *Pool) ExtendDeadline(in time.Duration) error {
	deadline, err := deadlineIn(in)
	if err != nil {
		return err
	}
	return call(func() C.aiopool_status { return C.aiopool_pool_extend_deadline(p.pool, deadline) })
}

// deadlineIn is a time from now on, on the library's clock; 0 for none.
func deadlineIn(in time.Duration) (C.uint64_t, error) {
	if in == 0 {
		return 0, nil
	}
	if _, err := milliseconds("Deadline", in); err != nil {
		return 0, err
	}
	var now C.struct_timespec
	if _, err := C.clock_gettime(C.CLOCK_BOOTTIME, &now); err != nil {
		return 0, err
	}
	return C.uint64_t(now.tv_sec)*1e9 + C.uint64_t(now.tv_nsec) + C.uint64_t(in), nil
}
