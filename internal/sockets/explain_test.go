package sockets

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

// TestWhatAnotherAttemptCanMend checks which errors of listening are errors in a setting. Another attempt may succeed
// after the others.
func TestWhatAnotherAttemptCanMend(t *testing.T) {
	for cause, isSetting := range map[error]bool{
		syscall.EADDRNOTAVAIL: true,
		syscall.EAFNOSUPPORT:  true,
		syscall.EACCES:        true,
		syscall.EADDRINUSE:    false,
		syscall.EMFILE:        false,
		&net.DNSError{Err: "no such host", Name: "hub", IsNotFound: true}:        true,
		&net.DNSError{Err: "server misbehaving", Name: "hub", IsTemporary: true}: false,
		&net.DNSError{Err: "i/o timeout", Name: "hub", IsTimeout: true}:          false,
	} {
		err := explain("hub:80", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", cause)})
		require.ErrorIs(t, err, cause)
		var setting *config.SettingError
		require.Equal(t, isSetting, errors.As(err, &setting), "%v", cause)
	}
}
