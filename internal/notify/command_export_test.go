package notify

import "time"

// UseTimes makes a command have another timeout, and another time to wait for the output of its children.
func UseTimes(sender Sender, timeout, delay time.Duration) {
	c := sender.(*command)
	c.timeout, c.delay = timeout, delay
}
