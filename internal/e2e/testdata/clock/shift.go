package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// shifted is by how many seconds Now is ahead, in a file that the test writes to; nil if no file is named.
var shifted *atomic.Int64

func init() {
	path, named := syscall.Getenv("KUBEAGENTS_TEST_CLOCK")
	if !named {
		return
	}
	file, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		panic(path + ": " + err.Error())
	}
	page, err := syscall.Mmap(file, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(path + ": " + err.Error())
	}
	shifted = (*atomic.Int64)(unsafe.Pointer(&page[0]))
}

func shift() int64 {
	if shifted == nil {
		return 0
	}
	return shifted.Load()
}
