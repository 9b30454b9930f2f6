// Package aiopool is a host of libaiopool: a pool whose calls block the goroutine that makes them,
// and no thread: Go's own poller watches the pool's descriptor, and a goroutine whose call finds the
// pool full waits on a channel.
package aiopool

/*
#cgo LDFLAGS: -laiopool
#include <aiopool.h>
#include <stdlib.h>

// An outcome, taken apart in one call from Go.
typedef struct {
	uint64_t key;
	int32_t status;
	const void *data;
	size_t len;
	const char *text;
} taken;

static aiopool_status take(aiopool_pool *pool, aiopool_outcome **outcome, taken *out) {
	aiopool_status status = aiopool_pool_try_wait(pool, outcome);
	if (status != AIOPOOL_OK) return status;
	out->key = aiopool_outcome_user_data(*outcome);
	out->status = aiopool_outcome_kind(*outcome);
	out->data = aiopool_outcome_data(*outcome);
	out->len = aiopool_outcome_len(*outcome);
	out->text = aiopool_outcome_text(*outcome);
	return status;
}

// The input is Go's memory, which a struct of C's must not point to across calls.
static aiopool_status submit(aiopool_pool *pool, uint32_t function, const void *input, size_t len,
                             aiopool_loan *loan, uint64_t key, uint64_t *ticket) {
	aiopool_call call;
	aiopool_status status = aiopool_call_init(&call);
	if (status != AIOPOOL_OK) return status;
	call.function = function;
	call.input = input;
	call.input_len = len;
	call.loan = loan;
	call.flags = loan == NULL ? 0 : AIOPOOL_CALL_BORROW_OUTPUT;
	call.user_data = key;
	return aiopool_pool_try_submit(pool, &call, ticket);
}
*/
import "C"

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// WorkerLost is the status of a task whose worker died.
const WorkerLost = int32(C.AIOPOOL_OUTCOME_WORKER_LOST)

// PoolError is a call that the library refused; Status is AIOPOOL_ERR_*.
type PoolError struct {
	Status int32
	Text   string
}

func (e *PoolError) Error() string { return e.Text }

// ErrClosed is the error of a call to a pool that was closed.
var ErrClosed = &PoolError{int32(C.AIOPOOL_ERR_CLOSED), "the pool is closed"}

// TaskError is what a task ended with that has no value.
type TaskError struct {
	Status int32
	Text   string
}

func (e *TaskError) Error() string { return e.Text }

// Borrowed is an output where its worker has put it: Bytes are valid until Release.
type Borrowed struct {
	Bytes   []byte
	outcome *C.aiopool_outcome
	pool    *Pool
}

// Release gives the memory back to the worker.
func (b *Borrowed) Release() {
	b.Bytes = nil
	C.aiopool_outcome_release(b.outcome)
	// There may be room now for a call that found none.
	b.pool.pump()
}

// retry is how long calls without room wait for another try when no outcome is on its way that would
// bring one: the memory of an input comes back a little after its outcome.
const retry = 20 * time.Millisecond

type end struct {
	output Borrowed
	err    error
}

// task is a call on its way; its fields are its pool's lock's.
type task struct {
	key    uint64
	number C.uint32_t
	data   unsafe.Pointer
	size   int
	loan   *C.aiopool_loan
	ticket C.uint64_t
	// The pool has it.
	submitted bool
	ended     chan end
}

// Pool is a pool of worker processes. All goroutines may use it.
type Pool struct {
	pool *C.aiopool_pool
	file *os.File
	done chan error

	lock  sync.Mutex
	next  uint64
	tasks map[uint64]*task
	// The tasks that found no room, the oldest first.
	full  []*task
	retry *time.Timer
	// Why there will be no more outcomes.
	broken error
}

// call makes a call of the library on one thread, where its error text is.
func call(f func() C.aiopool_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := f(); status != C.AIOPOOL_OK {
		return &PoolError{int32(status), C.GoString(C.aiopool_last_error())}
	}
	return nil
}

// Options of a pool. What is 0, false or nil is as without it.
type Options struct {
	Processes, ChildConcurrency uint32
	// Limits of each worker: bytes of address space, seconds of processor time, descriptors.
	AddressSpace, CPUSeconds, OpenFiles uint64
	// The only paths that workers can open; ReadOnly can also be executed.
	ReadOnly, ReadWrite []string
	// NoNetwork forbids sockets, NoSignals signals to others than a worker's own children.
	NoNetwork, NoSignals, NoNewPrivs bool
	// Numbers of system calls that answer EPERM.
	DeniedCalls []int64
	// BestEffort goes without the rules that the kernel cannot enforce.
	BestEffort bool
}

func (o *Options) flags() (flags C.uint32_t) {
	for flag, set := range map[C.uint32_t]bool{
		C.AIOPOOL_POOL_NO_NEW_PRIVS: o.NoNewPrivs, C.AIOPOOL_POOL_NO_NETWORK: o.NoNetwork,
		C.AIOPOOL_POOL_NO_SIGNALS: o.NoSignals, C.AIOPOOL_POOL_BEST_EFFORT: o.BestEffort,
	} {
		if set {
			flags |= flag
		}
	}
	return flags
}

// words is a copy of a list of strings in C's memory, ended by NULL; NULL for nil.
func words(list []string) **C.char {
	if list == nil {
		return nil
	}
	copies := (**C.char)(C.malloc(C.size_t(len(list)+1) * C.size_t(unsafe.Sizeof(uintptr(0)))))
	for i, word := range list {
		unsafe.Slice(copies, len(list)+1)[i] = C.CString(word)
	}
	unsafe.Slice(copies, len(list)+1)[len(list)] = nil
	return copies
}

func freeWords(copies **C.char, len int) {
	if copies != nil {
		for _, word := range unsafe.Slice(copies, len) {
			C.free(unsafe.Pointer(word))
		}
		C.free(unsafe.Pointer(copies))
	}
}

// Start starts worker processes of a command.
func Start(command []string, o Options) (*Pool, error) {
	program, readOnly, readWrite := words(command), words(o.ReadOnly), words(o.ReadWrite)
	defer freeWords(program, len(command))
	defer freeWords(readOnly, len(o.ReadOnly))
	defer freeWords(readWrite, len(o.ReadWrite))
	denied := C.malloc(C.size_t(8*len(o.DeniedCalls) + 1))
	defer C.free(denied)
	copy(unsafe.Slice((*int64)(denied), len(o.DeniedCalls)), o.DeniedCalls)
	p := &Pool{tasks: map[uint64]*task{}, done: make(chan error, 1)}
	var fd C.int32_t
	err := call(func() C.aiopool_status {
		var options C.aiopool_pool_options
		if status := C.aiopool_pool_options_init(&options); status != C.AIOPOOL_OK {
			return status
		}
		options.processes = C.uint32_t(o.Processes)
		if o.ChildConcurrency != 0 {
			options.child_concurrency = C.uint32_t(o.ChildConcurrency)
		}
		options.start_method = C.AIOPOOL_START_COMMAND
		options.command = program
		options.flags = o.flags()
		options.limit_address_space = C.uint64_t(o.AddressSpace)
		options.limit_cpu_seconds = C.uint64_t(o.CPUSeconds)
		options.limit_open_files = C.uint64_t(o.OpenFiles)
		options.read_only, options.read_write = readOnly, readWrite
		options.denied_calls = (*C.int64_t)(denied)
		options.denied_calls_len = C.size_t(len(o.DeniedCalls))
		if status := C.aiopool_pool_start(&options, &p.pool); status != C.AIOPOOL_OK {
			return status
		}
		return C.aiopool_pool_fd(p.pool, &fd)
	})
	if err != nil {
		return nil, err
	}
	// A duplicate, which Go closes; the pool's own stays the pool's.
	own, err := syscall.Dup(int(fd))
	if err != nil {
		return nil, err
	}
	p.file = os.NewFile(uintptr(own), "pool")
	watched, err := p.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	go func() {
		if err := watched.Read(func(uintptr) bool { return p.receive() }); err != nil {
			p.fail(err)
		}
	}()
	return p, nil
}

// Apply runs a worker's function on input, and waits for its output.
func (p *Pool) Apply(function string, input []byte) ([]byte, error) {
	return p.ApplyContext(context.Background(), function, input)
}

// ApplyContext is Apply for as long as ctx lasts: at its end the task is cancelled, and the error is
// the context's.
func (p *Pool) ApplyContext(ctx context.Context, function string, input []byte) ([]byte, error) {
	var data unsafe.Pointer
	if len(input) > 0 {
		data = unsafe.Pointer(&input[0])
	}
	result := p.run(ctx, function, data, len(input), nil)
	runtime.KeepAlive(input)
	if result.err != nil {
		return nil, result.err
	}
	output := append([]byte(nil), result.output.Bytes...)
	result.output.Release()
	return output, nil
}

// ApplyInPlace runs a worker's function on size bytes that fill writes where the workers read them,
// and waits for its output where the worker has written it.
func (p *Pool) ApplyInPlace(function string, size int, fill func([]byte)) (*Borrowed, error) {
	var data unsafe.Pointer
	var loan *C.aiopool_loan
	err := call(func() C.aiopool_status {
		return C.aiopool_pool_loan(p.pool, C.size_t(size), &data, &loan)
	})
	if err != nil {
		return nil, err
	}
	fill(unsafe.Slice((*byte)(data), size))
	result := p.run(context.Background(), function, nil, 0, loan)
	if result.err != nil {
		return nil, result.err
	}
	return &result.output, nil
}

func (p *Pool) run(ctx context.Context, function string, data unsafe.Pointer, size int, loan *C.aiopool_loan) end {
	name := C.CString(function)
	defer C.free(unsafe.Pointer(name))
	t := &task{data: data, size: size, loan: loan, ended: make(chan end, 1)}
	err := call(func() C.aiopool_status { return C.aiopool_function_declare(name, &t.number) })
	if err == nil {
		err = ctx.Err()
	}
	p.lock.Lock()
	if err == nil {
		err = p.broken
	}
	if err != nil {
		p.lock.Unlock()
		C.aiopool_loan_return(loan)
		return end{err: err}
	}
	p.next++
	t.key = p.next
	p.tasks[t.key] = t
	if len(p.full) > 0 || !p.push(t) {
		p.full = append(p.full, t)
		p.plan()
	}
	p.lock.Unlock()
	select {
	case result := <-t.ended:
		return result
	case <-ctx.Done():
	}
	p.lock.Lock()
	if !t.submitted {
		p.refuse(t, ctx.Err())
	} else if p.tasks[t.key] == t {
		// A task that is over has its outcome on the way.
		C.aiopool_pool_cancel(p.pool, t.ticket)
	}
	p.lock.Unlock()
	result := <-t.ended
	if failed, ok := result.err.(*TaskError); ok && failed.Status == int32(C.AIOPOOL_OUTCOME_CANCELLED) {
		result.err = ctx.Err()
	}
	return result
}

// push submits a task, or ends it if it is refused; false if the pool is full. With the lock.
func (p *Pool) push(t *task) bool {
	if p.tasks[t.key] != t {
		return true // Its context ended while it waited.
	}
	full := false
	err := call(func() C.aiopool_status {
		status := C.submit(p.pool, t.number, t.data, C.size_t(t.size), t.loan, C.uint64_t(t.key), &t.ticket)
		full = status == C.AIOPOOL_ERR_FULL
		return status
	})
	if full {
		return false
	}
	t.submitted = err == nil
	if err != nil {
		p.refuse(t, err)
	}
	return true
}

// refuse ends a task that the pool does not have. With the lock.
func (p *Pool) refuse(t *task, err error) {
	if p.tasks[t.key] != t {
		return
	}
	delete(p.tasks, t.key)
	C.aiopool_loan_return(t.loan)
	t.ended <- end{err: err}
}

// pump tries the calls that found no room, the oldest first.
func (p *Pool) pump() {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.broken != nil {
		return
	}
	for len(p.full) > 0 && p.push(p.full[0]) {
		p.full = p.full[1:]
	}
	p.plan()
}

// plan sees to another try for calls without room. With the lock.
func (p *Pool) plan() {
	if len(p.full) == 0 || p.retry != nil {
		return
	}
	p.retry = time.AfterFunc(retry, func() {
		p.lock.Lock()
		p.retry = nil
		p.lock.Unlock()
		p.pump()
	})
}

// fail ends every task with the reason why there will be no more outcomes.
func (p *Pool) fail(err error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.broken = err
	p.full = nil
	for key, t := range p.tasks {
		delete(p.tasks, key)
		if !t.submitted {
			C.aiopool_loan_return(t.loan)
		}
		t.ended <- end{err: err}
	}
	p.done <- err
}

// receive gives each outcome to the goroutine it is for; called by Go's poller whenever there may
// be some. True when the pool has ended, and there will be no more.
func (p *Pool) receive() bool {
	for {
		var outcome *C.aiopool_outcome
		var taken C.taken
		status := C.take(p.pool, &outcome, &taken)
		if status == C.AIOPOOL_ERR_EMPTY {
			// From here on the descriptor is not readable until there is something.
			break
		}
		if status != C.AIOPOOL_OK {
			p.fail(&PoolError{int32(status), C.GoString(C.aiopool_status_str(status))})
			return true
		}
		result := end{}
		if taken.status == C.AIOPOOL_OUTCOME_OK {
			bytes := unsafe.Slice((*byte)(taken.data), int(taken.len))
			result.output = Borrowed{bytes, outcome, p}
		} else {
			result.err = &TaskError{int32(taken.status), C.GoString(taken.text)}
			C.aiopool_outcome_release(outcome)
		}
		p.lock.Lock()
		t := p.tasks[uint64(taken.key)]
		delete(p.tasks, uint64(taken.key))
		p.lock.Unlock()
		t.ended <- result
	}
	p.pump()
	switch status := C.aiopool_pool_join(p.pool, 0); status {
	case C.AIOPOOL_ERR_MISUSE, C.AIOPOOL_ERR_TIMEOUT:
		// It is open, or on its way to its end, which makes the descriptor readable.
		return false
	case C.AIOPOOL_OK:
		p.lock.Lock()
		p.broken = ErrClosed
		p.lock.Unlock()
		p.done <- nil
	default:
		p.fail(&PoolError{int32(status), C.GoString(C.aiopool_status_str(status))})
	}
	return true
}

// Close ends the workers, once every Apply has come back.
func (p *Pool) Close() error {
	if err := call(func() C.aiopool_status { return C.aiopool_pool_close(p.pool) }); err != nil {
		return err
	}
	err := <-p.done
	p.file.Close()
	if freed := call(func() C.aiopool_status { return C.aiopool_pool_free(p.pool) }); err == nil {
		err = freed
	}
	return err
}

// Number is a number as the example tasks take it: 8 bytes.
func Number(x uint64) []byte {
	bytes := make([]byte, 8)
	binary.LittleEndian.PutUint64(bytes, x)
	return bytes
}

// Worker is the command of a worker that serves the example tasks.
func Worker() []string {
	return []string{from("AIOPOOL", "aiopool"), "worker", "--load", from("AIOPOOL_TASKS", "./libtasks.so")}
}

func from(variable, otherwise string) string {
	if value, set := os.LookupEnv(variable); set {
		return value
	}
	return otherwise
}
