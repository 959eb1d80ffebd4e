# Completions of kubeagents for fish.
complete -c kubeagents -f
complete -c kubeagents -n __fish_use_subcommand -a serve -d 'run the server (the default)'
complete -c kubeagents -n __fish_use_subcommand -a connect -d 'make the agents’ tools on this machine report to a server'
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -a 'claude-code codex gemini-cli cursor copilot opencode'
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -o check -d 'change nothing; send a test event by the hooks of each tool, and say whether it arrives'
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -o dry-run -d 'show every line that would change, and change nothing'
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -o project -d 'change the settings of the project in the current directory instead of yours'
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -o server -d 'the URL of the server (default http://localhost:8080)' -x
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -o token-file -d 'the file that holds the token, if the server wants one' -r -F
complete -c kubeagents -n '__fish_seen_subcommand_from connect' -o yes -d 'don’t ask'
complete -c kubeagents -n __fish_use_subcommand -a disconnect -d 'take the hooks of KubeAgents out of the tools’ settings'
complete -c kubeagents -n '__fish_seen_subcommand_from disconnect' -a 'claude-code codex gemini-cli cursor copilot opencode'
complete -c kubeagents -n '__fish_seen_subcommand_from disconnect' -o dry-run -d 'show every line that would change, and change nothing'
complete -c kubeagents -n '__fish_seen_subcommand_from disconnect' -o project -d 'change the settings of the project in the current directory instead of yours'
complete -c kubeagents -n '__fish_seen_subcommand_from disconnect' -o yes -d 'don’t ask'
complete -c kubeagents -n __fish_use_subcommand -a status -d 'show which agents need you, from a running server'
complete -c kubeagents -n '__fish_seen_subcommand_from status' -o json -d 'print JSON'
complete -c kubeagents -n '__fish_seen_subcommand_from status' -o line -d 'print one short line, as for the prompt of a shell or for tmux'
complete -c kubeagents -n '__fish_seen_subcommand_from status' -o n -d 'the number of sessions to list of each kind, 1 to 1000' -x
complete -c kubeagents -n '__fish_seen_subcommand_from status' -o server -d 'the URL of the server (default http://localhost:8080)' -x
complete -c kubeagents -n '__fish_seen_subcommand_from status' -o token-file -d 'the file that holds the token, if the server wants one' -r -F
complete -c kubeagents -n '__fish_seen_subcommand_from status' -o watch -d 'show every change as it happens, until Ctrl-C'
complete -c kubeagents -n __fish_use_subcommand -a health -d 'check whether a server is ready, as for a container’s health check'
complete -c kubeagents -n '__fish_seen_subcommand_from health' -o server -d 'the URL of the server (default the one with these settings)' -x
complete -c kubeagents -n __fish_use_subcommand -a backup -d 'copy the state of the running server to the new directory DIR'
complete -c kubeagents -n '__fish_seen_subcommand_from backup' -F
complete -c kubeagents -n __fish_use_subcommand -a token -d 'make a token named NAME and its line for TOKENS_FILE'
complete -c kubeagents -n '__fish_seen_subcommand_from token' -o agents -d 'patterns of the agent IDs that the token covers, separated by commas (default every agent)' -x
complete -c kubeagents -n '__fish_seen_subcommand_from token' -o expires -d 'how long the token is valid, a duration such as 2160h (default forever)' -x
complete -c kubeagents -n '__fish_seen_subcommand_from token' -o scopes -d 'what the token allows, separated by commas: report, read, acknowledge, admin' -x
complete -c kubeagents -n __fish_use_subcommand -a notify -d 'check a file of notification rules, and try it out'
complete -c kubeagents -n '__fish_seen_subcommand_from notify' -F
complete -c kubeagents -n '__fish_seen_subcommand_from notify' -o agent -d 'the ID of an agent of the server' -x
complete -c kubeagents -n '__fish_seen_subcommand_from notify' -o server -d 'the URL of the server (default http://localhost:8080)' -x
complete -c kubeagents -n '__fish_seen_subcommand_from notify' -o session -d 'the topic of a session of that agent (default the one updated last)' -x
complete -c kubeagents -n '__fish_seen_subcommand_from notify' -o test -d 'the destination to send a test message to' -x
complete -c kubeagents -n '__fish_seen_subcommand_from notify' -o token-file -d 'the file that holds the token, if the server wants one' -r -F
complete -c kubeagents -n __fish_use_subcommand -a hook -d 'post the event of an agent’s tool from standard input; connect makes tools on Windows run it'
complete -c kubeagents -n __fish_use_subcommand -a completion -d 'print completions for the shell SHELL: bash, zsh or fish'
complete -c kubeagents -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
complete -c kubeagents -n __fish_use_subcommand -a version -d 'print the version and the commit'
complete -c kubeagents -n __fish_use_subcommand -a help -d 'list the commands, or describe one'
complete -c kubeagents -n '__fish_seen_subcommand_from help' -a 'serve connect disconnect status health backup token notify hook completion version'
