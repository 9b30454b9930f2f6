// Package aiopool is a host of libaiopool: a pool whose calls block the goroutine that makes them.
//
// Go's own poller watches the pool's descriptor: no thread waits for outcomes.
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
	aiopool_status status = aiopool_pool_peek(pool, outcome);
	if (status != AIOPOOL_OK) return status;
	out->key = aiopool_outcome_user_data(*outcome);
	out->status = aiopool_outcome_status(*outcome);
	out->data = aiopool_outcome_data(*outcome);
	out->len = aiopool_outcome_len(*outcome);
	out->text = aiopool_outcome_text(*outcome);
	return status;
}

// The input is Go's memory, which a struct of C's must not point to across calls.
static aiopool_status submit(aiopool_pool *pool, uint32_t function, const void *input, size_t len,
                             aiopool_loan *loan, uint64_t key) {
	aiopool_call call;
	aiopool_status status = aiopool_call_init(&call);
	if (status != AIOPOOL_OK) return status;
	call.function = function;
	call.input = input;
	call.input_len = len;
	call.loan = loan;
	call.flags = loan == NULL ? 0 : AIOPOOL_CALL_BORROW_OUTPUT;
	call.user_data = key;
	return aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL);
}
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// WorkerLost is the status of a task whose worker died.
const WorkerLost = int32(C.AIOPOOL_OUTCOME_WORKER_LOST)

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
}

// Release gives the memory back to the worker.
func (b *Borrowed) Release() {
	b.Bytes = nil
	C.aiopool_outcome_release(b.outcome)
}

type end struct {
	output Borrowed
	err    error
}

// Pool is a pool of worker processes.
type Pool struct {
	pool  *C.aiopool_pool
	file  *os.File
	lock  sync.Mutex
	next  uint64
	tasks map[uint64]chan end
	done  chan error
}

// call makes a call of the library on one thread, where its error text is.
func call(f func() C.aiopool_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if f() != C.AIOPOOL_OK {
		return errors.New(C.GoString(C.aiopool_last_error()))
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
	p := &Pool{tasks: map[uint64]chan end{}, done: make(chan error, 1)}
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
			p.done <- err
		}
	}()
	return p, nil
}

// Apply runs a worker's function on input, and waits for its output.
func (p *Pool) Apply(function string, input []byte) ([]byte, error) {
	var data unsafe.Pointer
	if len(input) > 0 {
		data = unsafe.Pointer(&input[0])
	}
	result := p.run(function, data, len(input), nil)
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
	result := p.run(function, nil, 0, loan)
	if result.err != nil {
		return nil, result.err
	}
	return &result.output, nil
}

func (p *Pool) run(function string, data unsafe.Pointer, size int, loan *C.aiopool_loan) end {
	name := C.CString(function)
	defer C.free(unsafe.Pointer(name))
	ended := make(chan end, 1)
	p.lock.Lock()
	p.next++
	key := p.next
	p.tasks[key] = ended
	p.lock.Unlock()
	err := call(func() C.aiopool_status {
		var number C.uint32_t
		if status := C.aiopool_function_declare(name, &number); status != C.AIOPOOL_OK {
			return status
		}
		return C.submit(p.pool, number, data, C.size_t(size), loan, C.uint64_t(key))
	})
	if err != nil {
		p.lock.Lock()
		delete(p.tasks, key)
		p.lock.Unlock()
		C.aiopool_loan_return(loan)
		return end{err: err}
	}
	return <-ended
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
			p.done <- errors.New(C.GoString(C.aiopool_status_str(status)))
			return true
		}
		result := end{}
		if taken.status == C.AIOPOOL_OUTCOME_OK {
			bytes := unsafe.Slice((*byte)(taken.data), int(taken.len))
			result.output = Borrowed{bytes, outcome}
		} else {
			result.err = &TaskError{int32(taken.status), C.GoString(taken.text)}
			C.aiopool_outcome_release(outcome)
		}
		p.lock.Lock()
		ended := p.tasks[uint64(taken.key)]
		delete(p.tasks, uint64(taken.key))
		p.lock.Unlock()
		ended <- result
	}
	switch status := C.aiopool_pool_join(p.pool, 0); status {
	case C.AIOPOOL_ERR_MISUSE, C.AIOPOOL_ERR_TIMEOUT:
		// It is open, or on its way to its end, which makes the descriptor readable.
		return false
	case C.AIOPOOL_OK:
		p.done <- nil
	default:
		p.done <- errors.New(C.GoString(C.aiopool_status_str(status)))
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
