// Package aiopool is a host of libaiopool: a pool whose calls block the goroutine that makes them.
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
	aiopool_status status = aiopool_pool_wait(pool, AIOPOOL_FOREVER, outcome);
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
                             uint64_t key) {
	aiopool_call call;
	aiopool_status status = aiopool_call_init(&call);
	if (status != AIOPOOL_OK) return status;
	call.function = function;
	call.input = input;
	call.input_len = len;
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

type end struct {
	output []byte
	err    error
}

// Pool is a pool of worker processes.
type Pool struct {
	pool  *C.aiopool_pool
	lock  sync.Mutex
	next  uint64
	tasks map[uint64]chan end
	wake  chan struct{}
	done  chan struct{}
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

// Start starts worker processes of a command.
func Start(command []string, processes, childConcurrency uint32) (*Pool, error) {
	words := C.malloc(C.size_t(len(command)+1) * C.size_t(unsafe.Sizeof(uintptr(0))))
	defer C.free(words)
	list := unsafe.Slice((**C.char)(words), len(command)+1)
	for i, word := range command {
		list[i] = C.CString(word)
		defer C.free(unsafe.Pointer(list[i]))
	}
	list[len(command)] = nil
	p := &Pool{tasks: map[uint64]chan end{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	err := call(func() C.aiopool_status {
		var options C.aiopool_pool_options
		if status := C.aiopool_pool_options_init(&options); status != C.AIOPOOL_OK {
			return status
		}
		options.processes = C.uint32_t(processes)
		options.child_concurrency = C.uint32_t(childConcurrency)
		options.start_method = C.AIOPOOL_START_COMMAND
		options.command = list0(list)
		return C.aiopool_pool_start(&options, &p.pool)
	})
	if err != nil {
		return nil, err
	}
	go p.receive()
	return p, nil
}

func list0(list []*C.char) **C.char { return &list[0] }

// Apply runs a worker's function on input, and waits for its output.
func (p *Pool) Apply(function string, input []byte) ([]byte, error) {
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
		var data unsafe.Pointer
		if len(input) > 0 {
			data = unsafe.Pointer(&input[0])
		}
		return C.submit(p.pool, number, data, C.size_t(len(input)), C.uint64_t(key))
	})
	if err != nil {
		p.lock.Lock()
		delete(p.tasks, key)
		p.lock.Unlock()
		return nil, err
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
	result := <-ended
	return result.output, result.err
}

// receive waits for outcomes while there are tasks, and gives each to the goroutine it is for.
func (p *Pool) receive() {
	defer close(p.done)
	for range p.wake {
		for p.pending() > 0 {
			var outcome *C.aiopool_outcome
			var taken C.taken
			if call(func() C.aiopool_status { return C.take(p.pool, &outcome, &taken) }) != nil {
				break
			}
			result := end{}
			if taken.status == C.AIOPOOL_OUTCOME_OK {
				result.output = C.GoBytes(taken.data, C.int(taken.len))
			} else {
				result.err = &TaskError{int32(taken.status), C.GoString(taken.text)}
			}
			C.aiopool_outcome_release(outcome)
			p.lock.Lock()
			ended := p.tasks[uint64(taken.key)]
			delete(p.tasks, uint64(taken.key))
			p.lock.Unlock()
			ended <- result
		}
	}
}

func (p *Pool) pending() int {
	p.lock.Lock()
	defer p.lock.Unlock()
	return len(p.tasks)
}

// Close ends the workers, once every Apply has come back.
func (p *Pool) Close() error {
	close(p.wake)
	<-p.done
	return call(func() C.aiopool_status {
		if status := C.aiopool_pool_close(p.pool); status != C.AIOPOOL_OK {
			return status
		}
		if status := C.aiopool_pool_join(p.pool, C.AIOPOOL_FOREVER); status != C.AIOPOOL_OK {
			return status
		}
		return C.aiopool_pool_free(p.pool)
	})
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
