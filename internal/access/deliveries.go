package access

import (
	"crypto/sha256"
	"sync"
	"time"
)

// deliveryKept is how long an accepted webhook is remembered. It is twice the tolerance, because a signature may be
// dated up to the tolerance in the future.
const deliveryKept = 2 * signatureTolerance

// maxDeliveries is how many webhooks are remembered, at about 100 bytes each. Once it is reached, new webhooks are
// refused: forgetting one would let an attacker who captured it replay it.
const maxDeliveries = 1_000_000

// Deliveries remembers signed webhooks by their IDs for as long as their signatures are valid, so that each takes
// effect only once, even if unsigned parts of the request are changed. It is kept in memory only. Its methods are safe
// for concurrent use.
type Deliveries struct {
	mu       sync.Mutex
	known    map[deliveryKey]bool // true once accepted, false while in progress
	accepted []delivery           // oldest first
}

type deliveryKey [sha256.Size / 2]byte

type delivery struct {
	key deliveryKey
	at  time.Time
}

// DeliveryState is what is known about a webhook when it arrives.
type DeliveryState uint8

// The states of webhooks.
const (
	DeliveryNew        DeliveryState = iota // not seen before; in progress until End is called
	DeliveryAccepted                        // already accepted
	DeliveryInProgress                      // another request with the same ID is in progress
	DeliveryRefused                         // too many webhooks are remembered
)

// Begin returns what is known about the webhook with this ID. After DeliveryNew, the caller must call End.
func (d *Deliveries) Begin(id string, now time.Time) DeliveryState {
	key := keyOfDelivery(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(now)
	accepted, known := d.known[key]
	switch {
	case accepted:
		return DeliveryAccepted
	case known:
		return DeliveryInProgress
	case len(d.known) >= maxDeliveries:
		return DeliveryRefused
	}
	if d.known == nil {
		d.known = map[deliveryKey]bool{}
	}
	d.known[key] = false
	return DeliveryNew
}

// End records whether a webhook for which Begin returned DeliveryNew was accepted. If it was not, it may be sent again.
func (d *Deliveries) End(id string, accepted bool, now time.Time) {
	key := keyOfDelivery(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !accepted {
		delete(d.known, key)
		return
	}
	d.known[key] = true
	d.accepted = append(d.accepted, delivery{key, now})
}

// forget drops webhooks whose signatures are no longer valid. The caller holds d.mu.
func (d *Deliveries) forget(now time.Time) {
	for len(d.accepted) > 0 && now.Sub(d.accepted[0].at) > deliveryKept {
		delete(d.known, d.accepted[0].key)
		d.accepted = d.accepted[1:]
	}
}

func keyOfDelivery(id string) deliveryKey {
	sum := sha256.Sum256([]byte(id))
	return deliveryKey(sum[:])
}
