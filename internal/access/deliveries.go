package access

import (
	"crypto/sha256"
	"sync"
	"time"
)

// deliveryKept is how long a webhook that was taken is remembered: its signature may be dated as far ahead as one may be old.
const deliveryKept = 2 * signatureTolerance

// maxDeliveries is how many webhooks are remembered, which take some 100 bytes each. Beyond, no others are taken: to forget one would let
// whoever has captured it send it again.
const maxDeliveries = 1_000_000

// Deliveries remembers signed webhooks by their IDs for as long as their signatures are valid, so that each has its effect once, whatever
// of the request is not signed. They end with the process. Its methods are safe for concurrent use.
type Deliveries struct {
	mu    sync.Mutex
	known map[deliveryKey]bool // whether it was taken; else it is being taken
	taken []delivery           // oldest first
}

type deliveryKey [sha256.Size / 2]byte

type delivery struct {
	key deliveryKey
	at  time.Time
}

// DeliveryState is what is known of a webhook as it comes.
type DeliveryState uint8

// The states of webhooks.
const (
	DeliveryNew     DeliveryState = iota // it is being taken from now on, until End is called
	DeliveryTaken                        // it had its effect
	DeliveryBegun                        // another request with its ID is being answered
	DeliveryRefused                      // too many others are remembered
)

// Begin returns what is known of a webhook with that ID.
func (d *Deliveries) Begin(id string, now time.Time) DeliveryState {
	key := keyOfDelivery(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(now)
	taken, known := d.known[key]
	switch {
	case taken:
		return DeliveryTaken
	case known:
		return DeliveryBegun
	case len(d.known) >= maxDeliveries:
		return DeliveryRefused
	}
	if d.known == nil {
		d.known = map[deliveryKey]bool{}
	}
	d.known[key] = false
	return DeliveryNew
}

// End says whether a webhook that was new has had its effect. Otherwise it may come again.
func (d *Deliveries) End(id string, taken bool, now time.Time) {
	key := keyOfDelivery(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !taken {
		delete(d.known, key)
		return
	}
	d.known[key] = true
	d.taken = append(d.taken, delivery{key, now})
}

// forget lets go of webhooks whose signatures are not valid any more. The caller holds d.mu.
func (d *Deliveries) forget(now time.Time) {
	for len(d.taken) > 0 && now.Sub(d.taken[0].at) > deliveryKept {
		delete(d.known, d.taken[0].key)
		d.taken = d.taken[1:]
	}
}

func keyOfDelivery(id string) deliveryKey {
	sum := sha256.Sum256([]byte(id))
	return deliveryKey(sum[:])
}
