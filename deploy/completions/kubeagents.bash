# Completions of kubeagents for bash. Where there is nothing else to complete, files are.
_kubeagents() {
    local words=
    COMPREPLY=()
    case ${COMP_WORDS[1]} in
    connect) words='claude-code codex gemini-cli cursor copilot opencode -check -dry-run -project -server -token-file -yes' ;;
    disconnect) words='claude-code codex gemini-cli cursor copilot opencode -dry-run -project -yes' ;;
    status) words='-json -line -n -server -token-file -watch' ;;
    health) words='-server' ;;
    token) words='-agents -expires -scopes' ;;
    notify) words='-agent -server -session -test -token-file' ;;
    completion) words='bash zsh fish' ;;
    help) words='serve connect disconnect status health backup token notify hook completion version' ;;
    esac
    ((COMP_CWORD > 1)) || words='serve connect disconnect status health backup token notify hook completion version help'
    local word
    for word in $words; do
        [[ $word != "${COMP_WORDS[COMP_CWORD]}"* ]] || COMPREPLY+=("$word")
    done
}
complete -o default -F _kubeagents kubeagents
