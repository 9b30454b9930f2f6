package aiopool

// #include <aiopool.h>
import "C"

import "sync"

// Attempt is how an attempt of a task ended: the number of the attempt, from 1, and what a TaskError
// says, too.
type Attempt struct {
	Number    uint32
	Status    int32
	Code      int32
	Bystander bool
	Text      string
}

// The RetryIf of calls on their way, by their tasks' keys.
var deciders sync.Map

// aiopoolDecides is called by any thread of the library's, several at once: RetryIf must be quick and
// must not use the pool.
//
//export aiopoolDecides
func aiopoolDecides(attempt *C.aiopool_attempt, key C.uint64_t) C.bool {
	decider, known := deciders.Load(uint64(key))
	if !known {
		return false
	}
	return C.bool(decider.(func(Attempt) bool)(Attempt{
		uint32(attempt.number), int32(attempt.kind), int32(attempt.code), attempt.bystander != 0,
		C.GoString(attempt.text),
	}))
}
