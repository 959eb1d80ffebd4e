package config

import "github.com/kubeagents/kubeagents/internal/push"

// VAPIDKey is the private key for Web Push. Keys is nil if the setting is unset. It is never printed.
type VAPIDKey struct{ *push.Keys }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *VAPIDKey) UnmarshalText(text []byte) (err error) {
	k.Keys, err = push.ParseKeys(string(text))
	return err
}

// VAPIDSubject is a mailto: or https: URL of whoever runs the server.
type VAPIDSubject string

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *VAPIDSubject) UnmarshalText(text []byte) error {
	*s = VAPIDSubject(text)
	return push.CheckSubject(string(text))
}
