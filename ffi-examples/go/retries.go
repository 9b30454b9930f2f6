package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"aiopool-examples/aiopool"
)

// retries tries again what is to be tried again, as often and after such pauses as its options say, and
// tells what ended each task.
func retries() {
	pool := start(aiopool.Options{
		Processes: 1, ChildConcurrency: 2, Grace: 50 * time.Millisecond, Queues: 1,
		Scheduler: aiopool.LeastLoaded, NotObservable: true,
	})
	ended := func(function string, x uint64, o aiopool.CallOptions) *aiopool.TaskError {
		var task *aiopool.TaskError
		output, err := pool.ApplyWith(context.Background(), function, aiopool.Number(x), o)
		if !errors.As(err, &task) {
			log.Fatalf("%s: %v, %v", function, output, err)
		}
		return task
	}
	expect := func(that bool, what string, task *aiopool.TaskError) {
		if !that {
			log.Fatalf("%s: %+v", what, *task)
		}
	}

	task := ended("spin", 0, aiopool.CallOptions{
		RunLimit: 20 * time.Millisecond, Retries: 1, RetryOnTimeout: true, Jitter: true,
	})
	expect(task.Status == aiopool.TimedOut && task.Attempts == 2, "a time-out is tried again", task)
	task = ended("spin", 0, aiopool.CallOptions{RunLimit: 20 * time.Millisecond, Retries: 1})
	expect(task.Attempts == 1, "and only where that is asked for", task)
	// Doubled without a bound, the pauses would take a day.
	task = ended("fail", 7, aiopool.CallOptions{
		Retries: 26, RetryOnError: true, Backoff: time.Millisecond, LongestBackoff: 2 * time.Millisecond,
	})
	expect(task.Attempts == 27 && task.Cause == aiopool.CauseTask, "all attempts were made", task)
	var seen []aiopool.Attempt
	task = ended("fail", 7, aiopool.CallOptions{Retries: 9, RetryIf: func(attempt aiopool.Attempt) bool {
		seen = append(seen, attempt)
		return attempt.Number < 3
	}})
	expect(task.Attempts == 3 && len(seen) == 3, "the program decides", task)
	for i, attempt := range seen {
		expect(attempt.Number == uint32(i+1) && attempt.Status == aiopool.Failed && attempt.Code == 7 &&
			strings.Contains(attempt.Text, "it was to fail") && !attempt.Bystander, "what it decides by", task)
	}
	task = ended("no_such_function", 0, aiopool.CallOptions{})
	expect(task.Status == aiopool.Failed && task.Cause == aiopool.CauseUnknown, "nobody has it", task)

	// What wants the worker for itself waits until that has nothing else.
	beside := pool.Submit("never_done", nil)
	for {
		if _, begun := beside.Progress(); begun {
			break
		}
		time.Sleep(time.Millisecond)
	}
	task = ended("square", 3, aiopool.CallOptions{Alone: true, WaitLimit: 50 * time.Millisecond})
	expect(task.Status == aiopool.TimedOut, "it is not alone", task)
	// A death of a worker is told from the task that caused it.
	task = ended("fragile", 7, aiopool.CallOptions{})
	expect(task.Status == aiopool.WorkerLost && !task.Bystander, "the one that crashed", task)
	if _, err := beside.Wait(context.Background()); !errors.As(err, &task) {
		log.Fatal(err)
	}
	expect(task.Status == aiopool.WorkerLost && task.Bystander, "the one beside it", task)

	var refused *aiopool.PoolError
	beyond := uint32(1)
	for name, options := range map[string]aiopool.CallOptions{
		"LongestBackoff": {LongestBackoff: -1}, "Queue": {Queue: &beyond},
	} {
		_, err := pool.ApplyWith(context.Background(), "square", aiopool.Number(3), options)
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), name) {
			log.Fatalf("taken: %s: %v", name, err)
		}
	}
	beyond = 0
	if _, err := pool.ApplyWith(context.Background(), "square", aiopool.Number(3), aiopool.CallOptions{Queue: &beyond}); err != nil {
		log.Fatal(err)
	}
	end(pool)
	last()
	fmt.Println("retries: 2, 27 and 3 attempts, a bystander, and an end at its time")
}

// last has a pool end at a time that was moved once.
func last() {
	pool := start(aiopool.Options{Processes: 1, Probation: 1, Deadline: time.Hour})
	task := pool.Submit("never_done", nil)
	if err := pool.ExtendDeadline(50 * time.Millisecond); err != nil {
		log.Fatal(err)
	}
	if _, err := task.Wait(context.Background()); err == nil {
		log.Fatal("its time did not come")
	}
	pool.Close()
	if _, err := aiopool.Start(aiopool.Worker(), aiopool.Options{Deadline: -1}); err == nil {
		log.Fatal("a time below 0 was taken")
	}
	forever := start(aiopool.Options{Processes: 1})
	if err := forever.ExtendDeadline(time.Hour); err == nil {
		log.Fatal("a pool that was given no time had one")
	}
	end(forever)
}
