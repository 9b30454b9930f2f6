// The example programs: map, crash and async, by the name given as argument.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"

	"aiopool-examples/aiopool"
)

func main() {
	log.SetFlags(0)
	examples := map[string]func(){"map": squares, "crash": crash, "async": async}
	if len(os.Args) != 2 || examples[os.Args[1]] == nil {
		log.Fatal("usage: examples map|crash|async")
	}
	examples[os.Args[1]]()
}

// all applies a function to the numbers below count, each in a goroutine of its own.
func all(function string, count int, processes, concurrency uint32) ([]uint64, []error) {
	pool, err := aiopool.Start(aiopool.Worker(), processes, concurrency)
	if err != nil {
		log.Fatal(err)
	}
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
	if err := pool.Close(); err != nil {
		log.Fatal(err)
	}
	return values, errs
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
	fmt.Printf("crash: %d done, %d lost with their workers, each replaced\n", ok, lost)
}

func async() {
	values, errs := all("slow_double", 200, 1, 200)
	fmt.Printf("async: %d tasks in one worker, sum %d\n", len(values), sum(values, errs, func(x uint64) uint64 { return 2 * x }))
}
