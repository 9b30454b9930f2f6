// The example programs, by the name given as argument.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"aiopool-examples/aiopool"
)

func main() {
	log.SetFlags(0)
	examples := map[string]func(){
		"map": squares, "loop": loop, "async": async, "zero-copy": zeroCopy, "crash": crash,
		"confined": confined, "many": many, "surroundings": surroundings, "watched": watched,
		"leftovers": leftovers, "several": several, "broadcast": broadcast, "retries": retries,
	}
	if len(os.Args) != 2 || examples[os.Args[1]] == nil {
		log.Fatal("usage: examples map|loop|async|zero-copy|crash|confined|many|surroundings|watched|leftovers|several|broadcast|retries")
	}
	examples[os.Args[1]]()
}

// all applies a function to the numbers below count, each in a goroutine of its own.
func all(function string, count int, processes, concurrency uint32) ([]uint64, []error) {
	pool := start(aiopool.Options{Processes: processes, ChildConcurrency: concurrency})
	values, errs := make([]uint64, count), make([]error, count)
	var group sync.WaitGroup
	for i := 0; i < count; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			output, err := pool.Apply(function, aiopool.Number(uint64(i)))
			if errs[i] = err; err == nil {
				values[i] = binary.LittleEndian.Uint64(output)
			}
		}(i)
	}
	group.Wait()
	end(pool)
	return values, errs
}

func start(options aiopool.Options) *aiopool.Pool {
	pool, err := aiopool.Start(aiopool.Worker(), options)
	if err != nil {
		log.Fatal(err)
	}
	return pool
}

func end(pool *aiopool.Pool) {
	if err := pool.Close(); err != nil {
		log.Fatal(err)
	}
}

func sum(values []uint64, errs []error, expected func(uint64) uint64) (sum uint64) {
	for i, value := range values {
		if errs[i] != nil {
			log.Fatal(errs[i])
		}
		if value != expected(uint64(i)) {
			log.Fatalf("task %d gave %d", i, value)
		}
		sum += value
	}
	return sum
}

func squares() {
	values, errs := all("square", 1000, 4, 16)
	fmt.Printf("map: %d squares, sum %d\n", len(values), sum(values, errs, func(x uint64) uint64 { return x * x }))
}

// many calls from more goroutines than the pool has room for, some with a context that ends: each
// comes back, and no thread is made for one that waits.
func many() {
	debug.SetMaxThreads(1000)
	pool := start(aiopool.Options{Processes: 1, ChildConcurrency: 64})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var failed, cancelled, refused atomic.Int64
	for i := 0; i < 6100; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			within := context.Background()
			if i%61 == 0 {
				within = ctx
			}
			_, err := pool.ApplyContext(within, "slow_double", aiopool.Number(uint64(i)))
			if within == ctx && errors.Is(err, context.Canceled) {
				cancelled.Add(1)
			} else if err != nil {
				failed.Add(1)
			}
		}(i)
	}
	cancel()
	var poolError *aiopool.PoolError
	if _, err := pool.Apply("square", make([]byte, 65<<20)); errors.As(err, &poolError) {
		refused.Add(1)
		remedy(poolError)
	}
	group.Wait()
	end(pool)
	if _, err := pool.Apply("square", aiopool.Number(1)); err != aiopool.ErrClosed {
		log.Fatalf("a closed pool: %v", err)
	}
	fmt.Printf("many: %d failed, %d refused, cancelled some: %t\n", failed.Load(), refused.Load(), cancelled.Load() > 0)
}

// several pools at once, each with many goroutines, and closed while they call: a call is done, or is
// told that the pool is closed.
func several() {
	const pools, callers = 6, 200
	var group sync.WaitGroup
	var done, late atomic.Int64
	for i := 0; i < pools; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			pool := start(aiopool.Options{Processes: 1})
			var calls sync.WaitGroup
			first := make(chan struct{}, callers)
			for c := uint64(0); c < callers; c++ {
				calls.Add(1)
				go func(c uint64) {
					defer calls.Done()
					for x := c; ; x++ {
						output, err := pool.Apply("square", aiopool.Number(x))
						var refused *aiopool.PoolError
						switch {
						case err == nil && binary.LittleEndian.Uint64(output) == x*x:
							done.Add(1)
						case errors.As(err, &refused) && refused.Status == aiopool.ErrClosed.Status:
							late.Add(1)
							return
						default:
							log.Fatalf("%d gave %v: %v", x, output, err)
						}
						select {
						case first <- struct{}{}:
						default:
						}
					}
				}(c)
			}
			for c := 0; c < callers; c++ {
				<-first
			}
			end(pool)
			calls.Wait()
		}()
	}
	group.Wait()
	if done.Load() < pools*callers {
		log.Fatal("done: ", done.Load())
	}
	fmt.Printf("several: %d pools were closed under %d goroutines\n", pools, late.Load())
}

// remedy does what the refusal of a large input says.
func remedy(refusal error) {
	option := regexp.MustCompile(`raise (\w+)`).FindStringSubmatch(refusal.Error())
	options := aiopool.Options{Processes: 1}
	field := reflect.ValueOf(&options).Elem().FieldByName(append(option, "", "")[1])
	if !field.IsValid() {
		log.Fatal("no option is named: ", refusal)
	}
	field.SetUint(65 << 20)
	pool := start(options)
	_, err := pool.Apply("square", make([]byte, 65<<20))
	var task *aiopool.TaskError
	if !errors.As(err, &task) {
		log.Fatal("refused: ", err)
	}
	end(pool)

	if _, err := aiopool.Start(aiopool.Worker(), aiopool.Options{InputArena: 1}); err == nil ||
		!strings.Contains(err.Error(), "InputArena") {
		log.Fatal("taken: ", err)
	}
	if _, err := aiopool.Start(aiopool.Worker(), aiopool.Options{Grace: -1}); err == nil {
		log.Fatal("a time below 0 was taken")
	}
	silent, err := aiopool.Start([]string{"/bin/sleep", "60"}, aiopool.Options{
		Processes: 1, StartTimeout: 200 * time.Millisecond,
	})
	if err == nil {
		_, err = silent.Apply("square", nil)
		silent.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "sleep") || !strings.Contains(err.Error(), "StartTimeout") {
		log.Fatal("started: ", err)
	}
}

// loop keeps 256 tasks in flight, each in a goroutine that submits the next when one is over.
// How fast that was, and how long one task alone takes there and back, goes to stderr.
func loop() {
	const count, inFlight, alone = 10000, 256, 1000
	pool := start(aiopool.Options{Processes: 2})
	begun := time.Now()
	numbers := make(chan uint64)
	sums := make(chan uint64)
	for i := 0; i < inFlight; i++ {
		go func() {
			var sum uint64
			for x := range numbers {
				output, err := pool.Apply("square", aiopool.Number(x))
				if err != nil {
					log.Fatal(err)
				}
				sum += binary.LittleEndian.Uint64(output)
			}
			sums <- sum
		}()
	}
	for x := uint64(0); x < count; x++ {
		numbers <- x
	}
	close(numbers)
	var sum uint64
	for i := 0; i < inFlight; i++ {
		sum += <-sums
	}
	log.Printf("%.0f tasks a second", count/time.Since(begun).Seconds())
	begun = time.Now()
	for x := uint64(0); x < alone; x++ {
		if _, err := pool.Apply("square", aiopool.Number(x)); err != nil {
			log.Fatal(err)
		}
	}
	log.Printf("%.1f microseconds a round trip", time.Since(begun).Seconds()/alone*1e6)
	end(pool)
	fmt.Printf("loop: %d squares, sum %d\n", count, sum)
}

// zeroCopy writes large inputs where the workers read them, and reads outputs where they are written.
func zeroCopy() {
	const count, size = 8, 4 << 20
	pool := start(aiopool.Options{Processes: 2})
	sums := make(chan uint64)
	for i := 1; i <= count; i++ {
		go func(value byte) {
			output, err := pool.ApplyInPlace("invert", size, func(bytes []byte) {
				for at := range bytes {
					bytes[at] = value
				}
			})
			if err != nil {
				log.Fatal(err)
			}
			var sum uint64
			for _, b := range output.Bytes {
				sum += uint64(b)
			}
			output.Release()
			sums <- sum
		}(byte(i))
	}
	var sum uint64
	for i := 0; i < count; i++ {
		sum += <-sums
	}
	end(pool)
	crowded()
	fmt.Printf("zero-copy: %d inputs and outputs of %d MiB, sum %d\n", count, size>>20, sum)
}

// crowded calls in place from more goroutines than there is memory for: those that find none wait.
func crowded() {
	const count, size = 40, 1 << 20
	pool := start(aiopool.Options{Processes: 2, MaxPayload: size, InputArena: 4 * size, OutputArena: 96 * size})
	var group sync.WaitGroup
	for i := 0; i < count; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			defer func() {
				if reason := recover(); (reason == "not written") != (i == 20) {
					log.Fatal("panic: ", reason)
				}
			}()
			output, err := pool.ApplyInPlace("invert", size, func(bytes []byte) {
				if i == 20 {
					panic("not written")
				}
				bytes[size-1] = byte(i)
			})
			if err != nil {
				log.Fatal(err)
			}
			if output.Bytes[size-1] != byte(255-i) {
				log.Fatalf("task %d gave %d", i, output.Bytes[size-1])
			}
			output.Release()
		}(i)
	}
	group.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := pool.ApplyInPlaceContext(ctx, "invert", size, func([]byte) {}); err != context.Canceled {
		log.Fatal("not cancelled: ", err)
	}
	if err := pool.Close(); err != nil {
		log.Fatal(err)
	}
	if _, err := pool.ApplyInPlace("invert", size, func([]byte) {}); err != aiopool.ErrClosed {
		log.Fatal("a closed pool: ", err)
	}
}

func crash() {
	_, errs := all("fragile", 100, 2, 1)
	ok, lost := 0, 0
	for i, err := range errs {
		var task *aiopool.TaskError
		switch {
		case err == nil:
			ok++
		case errors.As(err, &task) && task.Status == aiopool.WorkerLost && i%20 == 7:
			lost++
		default:
			log.Fatal(err)
		}
	}
	optional()
	fmt.Printf("crash: %d done, %d lost with their workers, each replaced\n", ok, lost)
}

// optional sees what a function returned and how often it was tried, and kills what never obeys.
func optional() {
	pool := start(aiopool.Options{Processes: 1, Priorities: 2})
	var task *aiopool.TaskError
	_, err := pool.ApplyWith(context.Background(), "fail", aiopool.Number(7), aiopool.CallOptions{
		Retries: 2, RetryOnError: true, Backoff: time.Microsecond, Priority: 1,
	})
	if !errors.As(err, &task) || task.Code != 7 || task.Attempts != 3 {
		log.Fatalf("%+v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	spinning := pool.SubmitWith("spin", nil, aiopool.CallOptions{KillAfter: 20 * time.Millisecond})
	for {
		if _, begun := spinning.Progress(); begun {
			break
		}
		time.Sleep(time.Millisecond)
	}
	// The only worker computes: this one waits for it for too long.
	_, err = pool.ApplyWith(context.Background(), "square", aiopool.Number(3), aiopool.CallOptions{
		WaitLimit: 20 * time.Millisecond,
	})
	if !errors.As(err, &task) {
		log.Fatal("did not wait: ", err)
	}
	cancel()
	if _, err := spinning.Wait(ctx); err != context.Canceled {
		log.Fatal("not cancelled: ", err)
	}
	if _, err := pool.Apply("square", aiopool.Number(3)); err != nil {
		log.Fatal("the worker was not replaced: ", err)
	}
	var refused *aiopool.PoolError
	for _, options := range []aiopool.CallOptions{{Priority: 2}, {RunLimit: -1}, {KillAfter: -1}} {
		_, err := pool.ApplyWith(context.Background(), "square", aiopool.Number(3), options)
		if !errors.As(err, &refused) {
			log.Fatalf("taken: %+v: %v", options, err)
		}
	}
	end(pool)
}

func async() {
	values, errs := all("slow_double", 200, 1, 200)
	fmt.Printf("async: %d tasks in one worker, sum %d\n", len(values), sum(values, errs, func(x uint64) uint64 { return 2 * x }))
}

// confined has a worker try what an unconfined one may.
func confined() {
	trespass := func(options aiopool.Options) string {
		pool := start(options)
		said, err := pool.Apply("trespass", nil)
		if err != nil {
			log.Fatal(err)
		}
		end(pool)
		return string(said)
	}
	if free := trespass(aiopool.Options{Processes: 1}); free != "files Success, socket Success, writing Success" {
		log.Fatal(free)
	}
	fmt.Println("confined:", trespass(aiopool.Options{
		Processes: 1, OpenFiles: 64, ReadOnly: []string{"/"}, ReadWrite: []string{"/dev"}, NoNetwork: true,
	}))
}

// surroundings has workers be what this process is not.
func surroundings() {
	said := func(options aiopool.Options, prints string) string {
		pool := start(options)
		said, err := pool.Apply("surroundings", []byte(prints))
		if err != nil {
			log.Fatal(err)
		}
		end(pool)
		return string(said)
	}
	printed, err := os.MkdirTemp("", "aiopool-go")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(printed)
	os.Setenv("GREETING", "from the host")
	mask := uint32(0o027)
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		log.Fatal(err)
	}
	// The kernel answers 20 less the niceness.
	niceness := 20 - own
	if free := said(aiopool.Options{Processes: 1}, ""); !strings.HasPrefix(free, "GREETING from the host, in ") ||
		!strings.HasSuffix(free, fmt.Sprintf("niceness %d", niceness)) {
		log.Fatal(free)
	}
	told := said(aiopool.Options{
		Processes: 1, Environment: []string{"GREETING=hello"}, Directory: "/", Umask: &mask, Nice: 1,
		OutputDirectory: printed,
	}, "a line of a worker\n")
	told, last := told[:strings.LastIndex(told, " ")], told[strings.LastIndex(told, " ")+1:]
	if nicer, err := strconv.Atoi(last); err != nil || nicer != niceness+1 && niceness != 19 {
		log.Fatal(last)
	}
	if _, err := aiopool.Start(aiopool.Worker(), aiopool.Options{Processors: []uint32{1 << 30}}); err == nil ||
		!strings.Contains(err.Error(), "Processors") {
		log.Fatal("taken: ", err)
	}
	without := said(aiopool.Options{Processes: 1, Environment: []string{"GREETING"}}, "")
	if !strings.HasPrefix(without, "GREETING not set, ") {
		log.Fatal(without)
	}
	line, err := os.ReadFile(filepath.Join(printed, "worker-0.out"))
	if err != nil || string(line) != "a line of a worker\n" {
		log.Fatal(string(line), err)
	}
	fmt.Printf("surroundings: %s of its own; %s", told, line)
}

// watched looks at a pool from its host: its name, how far a task is, a timeline, and the end of it all.
func watched() {
	pool := start(aiopool.Options{Processes: 1, Name: "watched-go", BlockedAfter: time.Minute})
	trace := filepath.Join(os.TempDir(), fmt.Sprintf("aiopool-go-%d.json", os.Getpid()))
	defer os.Remove(trace)
	if err := pool.Trace(trace, 1); err != nil {
		log.Fatal(err)
	}
	if pool.Trace(trace, 1) == nil {
		log.Fatal("recorded twice")
	}
	ctx, cancel := context.WithCancel(context.Background())
	task := pool.Submit("never_done", nil)
	for {
		if number, ok := task.Progress(); ok && number == 42 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if _, err := task.Wait(ctx); !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	if _, ok := task.Progress(); ok {
		log.Fatal("a task that is over is somewhere")
	}
	if err := pool.EndTrace(); err != nil {
		log.Fatal(err)
	}
	written, err := os.ReadFile(trace)
	if err != nil || !json.Valid(written) || !strings.Contains(string(written), `"name":"never_done"`) {
		log.Fatal("no timeline: ", err)
	}
	if err := aiopool.Shutdown(); err == nil {
		log.Fatal("the library ended under a pool")
	}
	end(pool)
	if err := aiopool.Shutdown(); err != nil {
		log.Fatal(err)
	}
	again := start(aiopool.Options{Processes: 1})
	if _, err := again.Apply("square", aiopool.Number(2)); err != nil {
		log.Fatal(err)
	}
	end(again)
	fmt.Println("watched: 42 steps far, cancelled; a timeline; ended and begun again")
}

// leftovers gives up tasks, and pools that cannot start: nothing stays of either.
func leftovers() {
	pool := start(aiopool.Options{Processes: 2})
	const rounds, count, size = 6, 100, 1 << 20
	for round := 0; round < rounds; round++ {
		for i := 0; i < count; i++ {
			pool.Submit("invert", make([]byte, size))
		}
		task := pool.Submit("square", aiopool.Number(3))
		for i := 0; i < 2; i++ {
			output, err := task.Wait(context.Background())
			if err != nil || binary.LittleEndian.Uint64(output) != 9 {
				log.Fatal("waited again: ", output, err)
			}
		}
	}
	end(pool)
	if err := pool.Close(); err != aiopool.ErrClosed {
		log.Fatal("closed again: ", err)
	}
	// What was freed may still be the allocators'; that is less than two rounds' outputs. Finalizers
	// run some time after the collection.
	until("outputs that nobody waited for are left", func() bool {
		debug.FreeOSMemory()
		return resident() <= 3*count*size
	})

	// Starts with fewer descriptors than a pool needs, each time with one more.
	if err := aiopool.Shutdown(); err != nil {
		log.Fatal(err)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		log.Fatal(err)
	}
	open, failed := descriptors(), 0
	for limit := uint64(open); ; limit++ {
		limited(syscall.Rlimit{Cur: limit, Max: before.Max})
		pool, err := aiopool.Start(aiopool.Worker(), aiopool.Options{Processes: 1})
		limited(before)
		if err == nil {
			// Its worker has the limit, too, and may not have come to its first task.
			pool.Close()
			break
		}
		failed++
		if pool != nil {
			log.Fatal("a pool and an error: ", err)
		}
		cause := fmt.Sprintf(" left after a start with %d descriptors: %v", limit, err)
		until("processes are"+cause, func() bool { return children() == "" })
		until("descriptors are"+cause, func() bool { return descriptors() <= open })
	}
	if failed < 3 {
		log.Fatalf("only %d starts failed", failed)
	}

	// A pool that fails says why, as often as it is asked.
	broken, err := aiopool.Start([]string{"/bin/sh", "-c", "exit 3"}, aiopool.Options{Processes: 1})
	causes := []error{err}
	if err == nil {
		_, first := broken.Apply("square", aiopool.Number(1))
		_, second := broken.Apply("square", aiopool.Number(1))
		causes = []error{first, second, broken.Close()}
	}
	for _, cause := range causes {
		if cause == nil || !strings.Contains(cause.Error(), "/bin/sh") {
			log.Fatal("no cause: ", cause)
		}
	}
	fmt.Println("leftovers: none of tasks given up, none of pools that did not start")
}

// until waits for a state that comes by itself, and ends the program if it does not.
func until(failure string, isThere func() bool) {
	for end := time.Now().Add(2 * time.Minute); !isThere(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			log.Fatal(failure)
		}
	}
}

func limited(limit syscall.Rlimit) {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Fatal(err)
	}
}

func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		log.Fatal(err)
	}
	return len(entries)
}

// children are the numbers of this process's children.
func children() (numbers string) {
	paths, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(paths) == 0 {
		log.Fatal("no /proc: ", err)
	}
	for _, path := range paths {
		// A thread may have ended.
		text, _ := os.ReadFile(path)
		numbers += string(text)
	}
	return numbers
}

// resident is how many bytes of memory this process has.
func resident() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		log.Fatal(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}
