package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"aiopool-examples/aiopool"
)

// broadcast says that it is ready when all workers are up, gives each of them a new key, and asks each
// how much it has done.
func broadcast() {
	const key = 0xabcd
	ctx := context.Background()
	pool := start(aiopool.Options{Processes: 3})
	// Goroutines that wait for it together.
	errs := make(chan error)
	for i := 0; i < 10; i++ {
		go func() { errs <- pool.Ready(ctx) }()
	}
	for i := 0; i < 10; i++ {
		if err := <-errs; err != nil {
			log.Fatal(err)
		}
	}
	each := func(function string, input uint64) (values []uint64) {
		all, err := pool.Broadcast(ctx, function, aiopool.Number(input))
		if err != nil || len(all) != 3 {
			log.Fatal(len(all), err)
		}
		for _, one := range all {
			if one.Err != nil {
				log.Fatal(one.Err)
			}
			values = append(values, binary.LittleEndian.Uint64(one.Output))
		}
		return values
	}
	for _, old := range each("change_key", key) {
		if old != 0 {
			log.Fatal("a worker had a key: ", old)
		}
	}
	for i := uint64(0); i < 100; i++ {
		sealed, err := pool.Apply("seal", aiopool.Number(i))
		if err != nil || binary.LittleEndian.Uint64(sealed) != i^key {
			log.Fatal(sealed, err)
		}
	}
	var sum uint64
	for _, count := range each("how_many", 0) {
		sum += count
	}
	// Each worker has an end of its own.
	all, err := pool.Broadcast(ctx, "fail", aiopool.Number(7))
	for _, one := range all {
		var task *aiopool.TaskError
		if !errors.As(one.Err, &task) || task.Code != 7 {
			log.Fatalf("%+v", one)
		}
	}
	if err != nil || len(all) != 3 {
		log.Fatal(all, err)
	}
	all, err = pool.BroadcastWith(ctx, "never_done", nil, aiopool.CallOptions{RunLimit: 20 * time.Millisecond})
	for _, one := range all {
		var task *aiopool.TaskError
		if !errors.As(one.Err, &task) || task.Status != aiopool.TimedOut {
			log.Fatalf("%+v", one)
		}
	}
	if err != nil || len(all) != 3 {
		log.Fatal(all, err)
	}
	if _, err := pool.BroadcastWith(ctx, "seal", nil, aiopool.CallOptions{Retries: 1}); err == nil ||
		!strings.Contains(err.Error(), "RunLimit") {
		log.Fatal("taken: ", err)
	}
	// The caller need not wait for it.
	within, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	limit := aiopool.CallOptions{RunLimit: time.Second}
	if _, err := pool.BroadcastWith(within, "never_done", nil, limit); err != context.DeadlineExceeded {
		log.Fatal("not given up: ", err)
	}
	end(pool)
	if _, err := pool.Broadcast(ctx, "how_many", nil); err != aiopool.ErrClosed {
		log.Fatal("a closed pool: ", err)
	}
	if err := pool.Ready(ctx); err != aiopool.ErrClosed {
		log.Fatal("a closed pool is ready: ", err)
	}
	broken, err := aiopool.Start([]string{"/bin/sh", "-c", "exit 3"}, aiopool.Options{Processes: 1})
	if err == nil {
		err = broken.Ready(ctx)
		broken.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "/bin/sh") {
		log.Fatal("no cause: ", err)
	}
	fmt.Printf("broadcast: 3 workers have the key, and did %d tasks\n", sum)
}
