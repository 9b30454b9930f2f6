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
	int32_t code;
	uint32_t attempts;
	uint64_t ticket;
	int32_t cause;
	bool bystander;
} taken;

// The options of a call, as Go has them.
typedef struct {
	uint64_t run_limit_ms, wait_limit_ms, backoff_ms, longest_backoff_ms, kill_after_ms;
	uint32_t retries, priority, queue, flags;
	bool decides;
} options_of_call;

// In Go: whether a task is tried again.
extern bool aiopoolDecides(aiopool_attempt *attempt, uint64_t key);

static aiopool_status take(aiopool_pool *pool, aiopool_outcome **outcome, taken *out) {
	aiopool_status status = aiopool_pool_try_wait(pool, outcome);
	if (status != AIOPOOL_OK) return status;
	out->key = aiopool_outcome_user_data(*outcome);
	out->status = aiopool_outcome_kind(*outcome);
	out->data = aiopool_outcome_data(*outcome);
	out->len = aiopool_outcome_len(*outcome);
	out->text = aiopool_outcome_text(*outcome);
	out->code = aiopool_outcome_code(*outcome);
	out->attempts = aiopool_outcome_attempts(*outcome);
	out->ticket = aiopool_outcome_ticket(*outcome);
	out->cause = aiopool_outcome_error(*outcome);
	out->bystander = aiopool_outcome_is_bystander(*outcome);
	return status;
}

// The input is Go's memory, which a struct of C's must not point to across calls.
static aiopool_status submit(aiopool_pool *pool, uint32_t function, const void *input, size_t len,
                             aiopool_loan *loan, options_of_call options, uint64_t key,
                             uint64_t *ticket) {
	aiopool_call call;
	aiopool_status status = aiopool_call_init(&call);
	if (status != AIOPOOL_OK) return status;
	call.function = function;
	call.input = input;
	call.input_len = len;
	call.loan = loan;
	call.flags = options.flags | (loan == NULL ? 0 : AIOPOOL_CALL_BORROW_OUTPUT);
	call.run_limit_ms = options.run_limit_ms;
	call.wait_limit_ms = options.wait_limit_ms;
	call.backoff_ms = options.backoff_ms;
	call.longest_backoff_ms = options.longest_backoff_ms;
	call.retries = options.retries;
	// Go has no const.
	if (options.decides) call.retry_if = (aiopool_retry_fn)aiopoolDecides;
	call.priority = options.priority;
	call.queue = options.queue;
	call.user_data = key;
	return aiopool_pool_try_submit(pool, &call, ticket);
}

static aiopool_status broadcast(aiopool_pool *pool, uint32_t function, const void *input, size_t len,
                                options_of_call options, uint64_t key, uint64_t *ticket,
                                uint32_t *count) {
	aiopool_call call;
	aiopool_status status = aiopool_call_init(&call);
	if (status != AIOPOOL_OK) return status;
	call.function = function;
	call.input = input;
	call.input_len = len;
	call.run_limit_ms = options.run_limit_ms;
	call.user_data = key;
	return aiopool_pool_broadcast(pool, &call, ticket, count);
}
*/
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// How a task ended that has no value: the Status of a TaskError and of an Attempt.
const (
	// Its function returned an error, or it could not be run; see Cause.
	Failed    = int32(C.AIOPOOL_OUTCOME_ERR)
	Panicked  = int32(C.AIOPOOL_OUTCOME_PANICKED)
	Cancelled = int32(C.AIOPOOL_OUTCOME_CANCELLED)
	// It did not end, or did not start, in the time it was given.
	TimedOut = int32(C.AIOPOOL_OUTCOME_TIMED_OUT)
	// Its worker died.
	WorkerLost = int32(C.AIOPOOL_OUTCOME_WORKER_LOST)
	PoolClosed = int32(C.AIOPOOL_OUTCOME_POOL_CLOSED)
	// Another task held its worker until that was killed.
	NeighbourBlocked = int32(C.AIOPOOL_OUTCOME_NEIGHBOUR_BLOCKED)
)

// What is behind Failed: the Cause of a TaskError.
const (
	// The function returned it.
	CauseTask = int32(C.AIOPOOL_ERR_TASK)
	// The worker has no such function.
	CauseUnknown = int32(C.AIOPOOL_ERR_UNKNOWN)
	// The output found no room.
	CauseOutputSpace = int32(C.AIOPOOL_ERR_OUTPUT_SPACE)
)

// PoolError is a call that the library refused; Status is AIOPOOL_ERR_*.
type PoolError struct {
	Status int32
	Text   string
}

func (e *PoolError) Error() string { return e.Text }

// ErrClosed is the error of a call to a pool that was closed.
var ErrClosed = &PoolError{int32(C.AIOPOOL_ERR_CLOSED), "the pool is closed"}

// TaskError is what a task ended with that has no value: Code is the number that its function
// returned, Attempts how often it was begun, Cause what is behind Failed (AIOPOOL_ERR_*). Bystander
// says that another task is what ended it: it held their worker, or was running when that died.
type TaskError struct {
	Status    int32
	Text      string
	Code      int32
	Attempts  uint32
	Cause     int32
	Bystander bool
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

// end is what a task came to: an output, copied or in its worker's memory, or an error.
type end struct {
	output   []byte
	borrowed *Borrowed
	err      error
}

// CallOptions are those of one call. What is 0 or false is as without it.
type CallOptions struct {
	// How long an attempt may run, and how long the task may wait for a worker.
	RunLimit, WaitLimit time.Duration
	// Further attempts when its worker dies; with RetryOnError also when its function returns an
	// error, with RetryOnTimeout when it used up RunLimit itself. RetryIf, where it is not nil,
	// decides instead, and for a worker's death, too.
	Retries                      uint32
	RetryOnError, RetryOnTimeout bool
	RetryIf                      func(Attempt) bool
	// Backoff passes before the second attempt, doubled for each one after, up to LongestBackoff or a
	// minute. With Jitter each pause is shortened by chance, down to half of it.
	Backoff, LongestBackoff time.Duration
	Jitter                  bool
	// Alone has no other task run beside it in its worker, so that its crash costs no other.
	Alone bool
	// From 0, the most urgent, to the pool's Priorities - 1.
	Priority uint32
	// The queue that it goes to, from 0 to the pool's Queues - 1; nil for the scheduler's choice.
	Queue *uint32
	// A function that has not obeyed this long after its cancellation is killed with its worker;
	// 0 for never.
	KillAfter time.Duration
}

func (o *CallOptions) ofCall() (options C.options_of_call, err error) {
	for _, time := range []struct {
		name string
		d    time.Duration
		to   *C.uint64_t
	}{
		{"RunLimit", o.RunLimit, &options.run_limit_ms},
		{"WaitLimit", o.WaitLimit, &options.wait_limit_ms},
		{"Backoff", o.Backoff, &options.backoff_ms},
		{"LongestBackoff", o.LongestBackoff, &options.longest_backoff_ms},
		{"KillAfter", o.KillAfter, &options.kill_after_ms},
	} {
		if *time.to, err = milliseconds(time.name, time.d); err != nil {
			return options, err
		}
	}
	options.retries, options.priority = C.uint32_t(o.Retries), C.uint32_t(o.Priority)
	options.decides = C.bool(o.RetryIf != nil)
	for flag, set := range map[C.uint32_t]bool{
		C.AIOPOOL_CALL_RETRY_ON_ERROR: o.RetryOnError, C.AIOPOOL_CALL_RETRY_ON_TIMEOUT: o.RetryOnTimeout,
		C.AIOPOOL_CALL_JITTER: o.Jitter, C.AIOPOOL_CALL_ALONE: o.Alone,
		C.AIOPOOL_CALL_ON_QUEUE: o.Queue != nil,
	} {
		if set {
			options.flags |= flag
		}
	}
	if o.Queue != nil {
		options.queue = C.uint32_t(*o.Queue)
	}
	return options, nil
}

// Task is a call on its way; its fields are its pool's lock's.
type Task struct {
	pool   *Pool
	key    uint64
	number C.uint32_t
	data   unsafe.Pointer
	size   int
	// Whether the input is written into the pool's memory; then the memory, once there is some.
	inPlace bool
	loan    *C.aiopool_loan
	memory  unsafe.Pointer
	// Closed when there is memory. From then until the input is written the loan is the writer's.
	lent    chan struct{}
	writing bool
	ticket  C.uint64_t
	with    CallOptions
	options C.options_of_call
	// The pool has it.
	submitted bool
	// Whether every worker runs it: then each one's end, by its seat, and how many have none yet.
	broadcast bool
	ends      []end
	left      int
	// What it came to, from when done is closed on.
	end  end
	done chan struct{}
}

// finish ends a task, once.
func (t *Task) finish(result end) {
	deciders.Delete(t.key)
	t.end = result
	close(t.done)
}

// Pool is a pool of worker processes. All goroutines may use it.
type Pool struct {
	pool *C.aiopool_pool
	// Duplicates of the descriptors that are readable when there may be outcomes, and room.
	file, room *os.File
	done       chan error

	lock  sync.Mutex
	tasks map[uint64]*Task
	// The tasks that found no room, the oldest first.
	full   []*Task
	closed bool
	// Why there will be no more outcomes.
	broken error
	// The wait for the workers' start, while there is one.
	starting *starting
}

// The last task's key: they are all pools' together.
var lastKey atomic.Uint64

// call makes a call of the library on one thread, where its error text is.
func call(f func() C.aiopool_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := f(); status != C.AIOPOOL_OK {
		return refusal(status)
	}
	return nil
}

// refusal is the error of this thread's last call, which failed.
func refusal(status C.aiopool_status) error {
	return &PoolError{int32(status), ourNames(C.aiopool_last_error())}
}

// The names that options have here, for texts that name them as the library does.
var names = map[string]string{
	"child_concurrency": "ChildConcurrency", "max_tasks_per_child": "MaxTasksPerChild",
	"capacity": "Capacity", "priorities": "Priorities", "processes": "Processes",
	"max_payload": "MaxPayload", "input_arena": "InputArena", "output_arena": "OutputArena",
	"grace_ms": "Grace", "start_timeout_ms": "StartTimeout", "start_timeout": "StartTimeout",
	"blocked_after_ms": "BlockedAfter", "queues": "Queues", "probation": "Probation",
	"deadline_ns": "Deadline", "priority": "Priority", "queue": "Queue",
	"longest_backoff_ms": "LongestBackoff", "processors": "Processors", "limit_address_space": "AddressSpace",
	"limit_cpu_seconds": "CPUSeconds", "limit_open_files": "OpenFiles", "denied_calls": "DeniedCalls",
	"read_only": "ReadOnly", "read_write": "ReadWrite",
}

var name = regexp.MustCompile(`\b[a-z]+_[a-z_]+\b|^[a-z]+ =`)

// ourNames is a text of the library's, with the names that options have here.
func ourNames(text *C.char) string {
	return name.ReplaceAllStringFunc(C.GoString(text), func(word string) string {
		there := strings.TrimSuffix(word, " =")
		if here, known := names[there]; known {
			return here + word[len(there):]
		}
		return word
	})
}

// milliseconds is a time as the library has it: a part of a millisecond is a whole one.
func milliseconds(name string, d time.Duration) (C.uint64_t, error) {
	if d < 0 {
		text := fmt.Sprintf("%s = %v: a time from 0 on is possible", name, d)
		return 0, &PoolError{int32(C.AIOPOOL_ERR_INVALID), text}
	}
	return C.uint64_t((d + time.Millisecond - 1) / time.Millisecond), nil
}

// Scheduler chooses the queue of each task.
type Scheduler uint32

const (
	// RoundRobin takes the queues in turn.
	RoundRobin = Scheduler(C.AIOPOOL_SCHEDULER_ROUND_ROBIN)
	// LeastLoaded takes the queue with the fewest unfinished tasks for each of its workers.
	LeastLoaded = Scheduler(C.AIOPOOL_SCHEDULER_LEAST_LOADED)
	// ByPriority takes the queue with the fewest tasks ahead of this one.
	ByPriority = Scheduler(C.AIOPOOL_SCHEDULER_PRIORITY)
)

// Options of a pool. What is 0, false or nil is as without it.
type Options struct {
	Processes, ChildConcurrency, Priorities uint32
	// Queues, 1 to Processes; worker w serves queue w modulo Queues. What chooses a task's queue.
	Queues    uint32
	Scheduler Scheduler
	// Tasks of a function that run alone in their workers before others may run beside them.
	Probation uint32
	// Tasks that a worker runs before it is replaced; tasks that a queue holds, a power of two.
	MaxTasksPerChild, Capacity uint64
	// Bytes of the largest input, and of the memory for inputs and for each worker's outputs.
	MaxPayload, InputArena, OutputArena uint64
	// How long a worker has to obey a deadline or the pool's end, and until it can take tasks.
	Grace, StartTimeout time.Duration
	// After how long every worker is killed, even if this process is stopped; see ExtendDeadline.
	Deadline time.Duration
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
	// Name is the pool's for `aiopool top` and others.
	Name string
	// NotObservable keeps it from them.
	NotObservable bool
	// A task that holds up its worker for longer becomes an event of the pool.
	BlockedAfter time.Duration
	// What workers are that this process is not: variables, NAME=value sets one and NAME takes it
	// out; nothing but those; working directory; the directory for what workers print; umask;
	// niceness that is added; user and group, as root; the numbers of the processors that they run on,
	// nil for this process's.
	Environment                []string
	ClearEnvironment           bool
	Directory, OutputDirectory string
	Umask, User, Group         *uint32
	Nice                       int32
	Processors                 []uint32
}

func (o *Options) flags() (flags C.uint32_t) {
	for flag, set := range map[C.uint32_t]bool{
		C.AIOPOOL_POOL_NO_NEW_PRIVS: o.NoNewPrivs, C.AIOPOOL_POOL_NO_NETWORK: o.NoNetwork,
		C.AIOPOOL_POOL_NO_SIGNALS: o.NoSignals, C.AIOPOOL_POOL_BEST_EFFORT: o.BestEffort,
		C.AIOPOOL_POOL_NOT_OBSERVABLE: o.NotObservable,
	} {
		if set {
			flags |= flag
		}
	}
	return flags
}

// text is a copy of a string in C's memory; NULL for none.
func text(s string) *C.char {
	if s == "" {
		return nil
	}
	return C.CString(s)
}

// surroundings are in C's memory, as pointers to them are; free gives it all back.
func (o *Options) surroundings() (s *C.aiopool_surroundings, free func()) {
	s = (*C.aiopool_surroundings)(C.malloc(C.sizeof_aiopool_surroundings))
	C.aiopool_surroundings_init(s)
	environment, directory, output := words(o.Environment), text(o.Directory), text(o.OutputDirectory)
	s.environment, s.directory, s.output_directory = environment, directory, output
	s.nice = C.int32_t(o.Nice)
	processors := C.malloc(C.size_t(4*len(o.Processors) + 1))
	copy(unsafe.Slice((*uint32)(processors), len(o.Processors)), o.Processors)
	if o.Processors != nil {
		s.processors, s.processors_len = (*C.uint32_t)(processors), C.size_t(len(o.Processors))
	}
	if o.ClearEnvironment {
		s.flags |= C.AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT
	}
	if o.Umask != nil {
		s.umask, s.flags = C.uint32_t(*o.Umask), s.flags|C.AIOPOOL_SURROUNDINGS_UMASK
	}
	if o.User != nil {
		s.user, s.flags = C.uint32_t(*o.User), s.flags|C.AIOPOOL_SURROUNDINGS_USER
	}
	if o.Group != nil {
		s.group, s.flags = C.uint32_t(*o.Group), s.flags|C.AIOPOOL_SURROUNDINGS_GROUP
	}
	return s, func() {
		freeWords(environment, len(o.Environment))
		C.free(unsafe.Pointer(directory))
		C.free(unsafe.Pointer(output))
		C.free(processors)
		C.free(unsafe.Pointer(s))
	}
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
	name := text(o.Name)
	defer C.free(unsafe.Pointer(name))
	surroundings, free := o.surroundings()
	defer free()
	p := &Pool{tasks: map[uint64]*Task{}, done: make(chan error, 1)}
	var fd, roomFd C.int32_t
	blockedAfter, err := milliseconds("BlockedAfter", o.BlockedAfter)
	if err != nil {
		return nil, err
	}
	grace, err := milliseconds("Grace", o.Grace)
	if err != nil {
		return nil, err
	}
	startTimeout, err := milliseconds("StartTimeout", o.StartTimeout)
	if err != nil {
		return nil, err
	}
	if startTimeout > math.MaxUint32 {
		startTimeout = math.MaxUint32
	}
	deadline, err := deadlineIn(o.Deadline)
	if err != nil {
		return nil, err
	}
	err = call(func() C.aiopool_status {
		var options C.aiopool_pool_options
		if status := C.aiopool_pool_options_init(&options); status != C.AIOPOOL_OK {
			return status
		}
		options.processes = C.uint32_t(o.Processes)
		if o.ChildConcurrency != 0 {
			options.child_concurrency = C.uint32_t(o.ChildConcurrency)
		}
		if o.Priorities != 0 {
			options.priorities = C.uint32_t(o.Priorities)
		}
		if o.Queues != 0 {
			options.queues = C.uint32_t(o.Queues)
		}
		options.scheduler = C.uint32_t(o.Scheduler)
		options.probation = C.uint32_t(o.Probation)
		options.max_tasks_per_child = C.uint64_t(o.MaxTasksPerChild)
		if o.Capacity != 0 {
			options.capacity = C.uint64_t(o.Capacity)
		}
		if o.MaxPayload != 0 {
			options.max_payload = C.uint64_t(o.MaxPayload)
		}
		options.input_arena, options.output_arena = C.uint64_t(o.InputArena), C.uint64_t(o.OutputArena)
		if grace != 0 {
			options.grace_ms = grace
		}
		options.start_timeout_ms = C.uint32_t(startTimeout)
		options.start_method = C.AIOPOOL_START_COMMAND
		options.command = program
		options.flags = o.flags()
		options.limit_address_space = C.uint64_t(o.AddressSpace)
		options.limit_cpu_seconds = C.uint64_t(o.CPUSeconds)
		options.limit_open_files = C.uint64_t(o.OpenFiles)
		options.read_only, options.read_write = readOnly, readWrite
		options.denied_calls = (*C.int64_t)(denied)
		options.denied_calls_len = C.size_t(len(o.DeniedCalls))
		options.name, options.surroundings = name, surroundings
		options.blocked_after_ms, options.deadline_ns = blockedAfter, deadline
		if status := C.aiopool_pool_start(&options, &p.pool); status != C.AIOPOOL_OK {
			return status
		}
		if status := C.aiopool_pool_room_fd(p.pool, &roomFd); status != C.AIOPOOL_OK {
			return status
		}
		return C.aiopool_pool_fd(p.pool, &fd)
	})
	if err == nil {
		p.room, err = duplicate(roomFd)
	}
	if err == nil {
		p.file, err = duplicate(fd)
	}
	if err != nil {
		p.free()
		return nil, err
	}
	watch(p.room, p.pump, func(error) {})
	watch(p.file, p.receive, p.fail)
	return p, nil
}

// duplicate makes a descriptor of a pool's one that Go closes; the pool's own stays the pool's.
func duplicate(fd C.int32_t) (*os.File, error) {
	own, err := syscall.Dup(int(fd))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(own)
	// Go's poller takes those that do not block; there is nothing to be read from either.
	if err := syscall.SetNonblock(own, true); err != nil {
		syscall.Close(own)
		return nil, err
	}
	return os.NewFile(uintptr(own), "pool"), nil
}

// watch has Go's poller call a function whenever a descriptor becomes readable, until that says that
// there will be no more.
func watch(file *os.File, readable func() bool, failed func(error)) {
	go func() {
		watched, err := file.SyscallConn()
		if err == nil {
			err = watched.Read(func(uintptr) bool { return readable() })
		}
		if err != nil {
			failed(err)
		}
	}()
}

// free ends the watches, and frees the pool with all that is left of it.
func (p *Pool) free() error {
	// A file that was not made is nil, which Close knows.
	p.file.Close()
	p.room.Close()
	return call(func() C.aiopool_status { return C.aiopool_pool_free(p.pool) })
}

// Apply runs a worker's function on input, and waits for its output.
func (p *Pool) Apply(function string, input []byte) ([]byte, error) {
	return p.ApplyContext(context.Background(), function, input)
}

// ApplyContext is Apply for as long as ctx lasts: at its end the task is cancelled, and the error is
// the context's.
func (p *Pool) ApplyContext(ctx context.Context, function string, input []byte) ([]byte, error) {
	return p.ApplyWith(ctx, function, input, CallOptions{})
}

// ApplyWith is ApplyContext with options of the call's own.
func (p *Pool) ApplyWith(ctx context.Context, function string, input []byte, o CallOptions) ([]byte, error) {
	return p.submit(ctx, function, &Task{data: bytesAt(input), size: len(input), with: o}).Wait(ctx)
}

func bytesAt(input []byte) unsafe.Pointer {
	if len(input) == 0 {
		return nil
	}
	return unsafe.Pointer(&input[0])
}

// Submit has a worker's function run on input, which must stay as it is until Wait returns.
func (p *Pool) Submit(function string, input []byte) *Task {
	return p.SubmitWith(function, input, CallOptions{})
}

// SubmitWith is Submit with options of the call's own.
func (p *Pool) SubmitWith(function string, input []byte, o CallOptions) *Task {
	return p.submit(context.Background(), function, &Task{data: bytesAt(input), size: len(input), with: o})
}

// Wait waits for the task's output for as long as ctx lasts: at its end the task is cancelled, and the
// error is the context's. Waiting again gives the same, and a task need not be waited for.
func (t *Task) Wait(ctx context.Context) ([]byte, error) {
	result := t.wait(ctx)
	return result.output, result.err
}

// Progress is how far the task says it is; false where it has said nothing, or is over.
func (t *Task) Progress() (uint64, bool) {
	t.pool.lock.Lock()
	defer t.pool.lock.Unlock()
	var number C.uint64_t
	// A pool with a task in its map is not freed.
	if !t.submitted || t.pool.tasks[t.key] != t ||
		C.aiopool_pool_progress(t.pool.pool, t.ticket, &number) != C.AIOPOOL_OK {
		return 0, false
	}
	return uint64(number), true
}

// Trace records what the workers do from now on, each task or each hundredth (every), for a file that
// ui.perfetto.dev opens; EndTrace writes it.
func (p *Pool) Trace(path string, every uint32) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	return call(func() C.aiopool_status { return C.aiopool_pool_trace(p.pool, name, C.uint32_t(every)) })
}

// EndTrace ends what Trace began.
func (p *Pool) EndTrace() error {
	return call(func() C.aiopool_status { return C.aiopool_pool_trace_end(p.pool) })
}

// Shutdown ends what the library has started, once every pool is closed; pools can be started again.
func Shutdown() error {
	return call(func() C.aiopool_status { return C.aiopool_shutdown() })
}

// ApplyInPlace runs a worker's function on size bytes that fill writes where the workers read them,
// and waits for its output where the worker has written it. Where the pool's memory is taken it waits
// for some, as other calls wait for room.
func (p *Pool) ApplyInPlace(function string, size int, fill func([]byte)) (*Borrowed, error) {
	return p.ApplyInPlaceContext(context.Background(), function, size, fill)
}

// ApplyInPlaceContext is ApplyInPlace for as long as ctx lasts.
func (p *Pool) ApplyInPlaceContext(ctx context.Context, function string, size int, fill func([]byte)) (*Borrowed, error) {
	t := &Task{size: size, inPlace: true, lent: make(chan struct{})}
	p.submit(ctx, function, t)
	select {
	case <-t.lent:
	case <-t.done:
	case <-ctx.Done():
	}
	p.lock.Lock()
	lent := t.writing
	if !lent && !t.submitted && ctx.Err() != nil {
		// Before it is lent memory that nobody would write.
		p.refuse(t, ctx.Err())
	}
	p.lock.Unlock()
	if lent {
		t.write(fill)
	}
	result := t.wait(ctx)
	return result.borrowed, result.err
}

// write has the caller write a task's input, and submits it.
func (t *Task) write(fill func([]byte)) {
	p, written := t.pool, false
	// Also if it panics.
	defer func() {
		p.lock.Lock()
		defer p.lock.Unlock()
		t.writing = false
		if p.tasks[t.key] != t {
			// The pool has ended meanwhile.
			C.aiopool_loan_return(t.loan)
		} else if !written {
			p.refuse(t, errors.New("the input was not written"))
		} else if !p.push(t) {
			// Before those that wait for memory: they may wait for what this one has.
			p.full = append([]*Task{t}, p.full...)
		}
	}()
	fill(unsafe.Slice((*byte)(t.memory), t.size))
	written = true
}

// submit gives a task a function, and to the pool.
func (p *Pool) submit(ctx context.Context, function string, t *Task) *Task {
	name := C.CString(function)
	defer C.free(unsafe.Pointer(name))
	t.pool, t.done = p, make(chan struct{})
	err := call(func() C.aiopool_status { return C.aiopool_function_declare(name, &t.number) })
	if err == nil {
		t.options, err = t.with.ofCall()
	}
	if err == nil && t.size < 0 {
		text := fmt.Sprintf("%d bytes: a number from 1 on is possible", t.size)
		err = &PoolError{int32(C.AIOPOOL_ERR_INVALID), text}
	}
	if err == nil {
		err = ctx.Err()
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if err == nil {
		err = p.broken
	}
	if err != nil {
		t.finish(end{err: err})
		return t
	}
	t.key = lastKey.Add(1)
	p.tasks[t.key] = t
	if t.with.RetryIf != nil {
		deciders.Store(t.key, t.with.RetryIf)
	}
	p.enqueue(t)
	return t
}

// enqueue submits a task, or has it wait for room behind those that do. With the lock.
func (p *Pool) enqueue(t *Task) {
	if len(p.full) > 0 || !p.push(t) {
		p.full = append(p.full, t)
	}
}

func (t *Task) wait(ctx context.Context) end {
	p := t.pool
	select {
	case <-t.done:
		return t.end
	case <-ctx.Done():
	}
	p.lock.Lock()
	if !t.submitted {
		p.refuse(t, ctx.Err())
	} else if p.tasks[t.key] == t {
		// A task that is over has its outcome on the way.
		if t.options.kill_after_ms == 0 {
			C.aiopool_pool_cancel(p.pool, t.ticket)
		} else {
			C.aiopool_pool_cancel_within(p.pool, t.ticket, t.options.kill_after_ms)
		}
	}
	p.lock.Unlock()
	<-t.done
	result := t.end
	if failed, ok := result.err.(*TaskError); ok && failed.Status == int32(C.AIOPOOL_OUTCOME_CANCELLED) {
		result.err = ctx.Err()
	}
	return result
}

// push submits a task, or ends it if it is refused; false if the pool is full. With the lock.
func (p *Pool) push(t *Task) bool {
	if p.tasks[t.key] != t {
		return true // Its context ended while it waited.
	}
	full := false
	if t.inPlace && t.loan == nil {
		err := call(func() C.aiopool_status {
			status := C.aiopool_pool_loan(p.pool, C.size_t(t.size), &t.memory, &t.loan)
			full = status == C.AIOPOOL_ERR_FULL
			return status
		})
		if full {
			return false
		}
		if err != nil {
			p.refuse(t, err)
		} else {
			// The goroutine that waits for it writes the input.
			t.writing = true
			close(t.lent)
		}
		return true
	}
	size := t.size
	if t.inPlace {
		size = 0 // All that was lent.
	}
	var count C.uint32_t
	err := call(func() (status C.aiopool_status) {
		if t.broadcast {
			status = C.broadcast(p.pool, t.number, t.data, C.size_t(size), t.options, C.uint64_t(t.key), &t.ticket, &count)
		} else {
			status = C.submit(p.pool, t.number, t.data, C.size_t(size), t.loan, t.options, C.uint64_t(t.key), &t.ticket)
		}
		full = status == C.AIOPOOL_ERR_FULL
		return status
	})
	if full {
		return false
	}
	// The library has copied it.
	t.submitted, t.data = err == nil, nil
	t.ends, t.left = make([]end, count), int(count)
	if err != nil {
		p.refuse(t, err)
	}
	return true
}

// refuse ends a task that the pool does not have. With the lock.
func (p *Pool) refuse(t *Task, err error) {
	if p.tasks[t.key] != t {
		return
	}
	delete(p.tasks, t.key)
	if !t.writing {
		C.aiopool_loan_return(t.loan)
	}
	t.finish(end{err: err})
}

// pump tries the calls that found no room, the oldest first; called by Go's poller whenever there may
// be some. True when no call will be submitted any more.
func (p *Pool) pump() bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.broken != nil {
		return true
	}
	for len(p.full) > 0 && p.push(p.full[0]) {
		p.full[0] = nil // The slice goes on to have it.
		p.full = p.full[1:]
	}
	return false
}

// fail ends every task with the reason why there will be no more outcomes.
func (p *Pool) fail(err error) {
	p.end(err)
	p.done <- err
}

// end ends every task that is left: the pool has none of them any more.
func (p *Pool) end(err error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.broken = err
	p.full = nil
	for _, t := range p.tasks {
		if t.submitted {
			t.loan = nil
		}
		p.refuse(t, err)
	}
}

// receive gives each outcome to the goroutine it is for; called by Go's poller whenever there may
// be some. True when the pool has ended, and there will be no more.
func (p *Pool) receive() bool {
	// The text of an error is its thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		var outcome *C.aiopool_outcome
		var taken C.taken
		status := C.take(p.pool, &outcome, &taken)
		if status == C.AIOPOOL_ERR_EMPTY {
			// From here on the descriptor is not readable until there is something.
			break
		}
		if status != C.AIOPOOL_OK {
			p.fail(refusal(status))
			return true
		}
		p.lock.Lock()
		t := p.tasks[uint64(taken.key)]
		if t.left--; t.left <= 0 {
			delete(p.tasks, uint64(taken.key))
		}
		p.lock.Unlock()
		result := end{}
		if taken.status == C.AIOPOOL_OUTCOME_OK {
			bytes := unsafe.Slice((*byte)(taken.data), int(taken.len))
			if t.inPlace {
				result.borrowed = &Borrowed{bytes, outcome}
			} else {
				// Nobody need wait for a task, so nobody else is sure to release it.
				result.output = append([]byte{}, bytes...)
			}
		} else {
			text := C.GoString(taken.text)
			if taken.status != C.AIOPOOL_OUTCOME_ERR {
				// It is not the function's own.
				text = ourNames(taken.text)
			}
			result.err = &TaskError{
				int32(taken.status), text, int32(taken.code), uint32(taken.attempts), int32(taken.cause),
				bool(taken.bystander),
			}
		}
		if result.borrowed == nil {
			C.aiopool_outcome_release(outcome)
		}
		if t.broadcast {
			t.ends[taken.ticket-t.ticket] = result
			if t.left > 0 {
				continue
			}
			result = end{}
		}
		t.finish(result)
	}
	switch status := C.aiopool_pool_join(p.pool, 0); status {
	case C.AIOPOOL_ERR_MISUSE, C.AIOPOOL_ERR_TIMEOUT:
		// It is open, or on its way to its end, which makes the descriptor readable.
		return false
	case C.AIOPOOL_OK:
		p.end(ErrClosed)
		p.done <- nil
	default:
		p.fail(refusal(status))
	}
	return true
}

// Close ends the workers, once every task is over. The error of a pool that failed is why it did.
func (p *Pool) Close() error {
	p.lock.Lock()
	again := p.closed
	p.closed = true
	p.lock.Unlock()
	if again {
		return ErrClosed
	}
	err := call(func() C.aiopool_status { return C.aiopool_pool_close(p.pool) })
	if err == nil {
		err = <-p.done
	}
	if freed := p.free(); err == nil {
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
