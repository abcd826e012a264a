"""Chat templates with tools in the published formats of several model families, written for these tests.

The marks, the roles and their order, what is trimmed, escaped, moved or stripped are those of the families; the words
around the list of tools are our own. Each comes with the special tokens that a tokenizer of the family has.
"""

import re
from pathlib import Path

CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

_TOOLS = """{%- macro list_tools(tools) -%}
# Tools

Functions that you may call:
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>

A call is a JSON object between these tags:
<tool_call>
{"name": <name>, "arguments": <object>}
</tool_call>
{%- endmacro -%}
"""

_CALLS = """{%- macro calls(message) -%}
{%- for call in message.tool_calls -%}
{%- if message.content or not loop.first -%}{{ '\\n' }}{%- endif -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
{%- endmacro -%}
"""

_RESULT = """{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}
{{ '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>\\n' }}{%- endif -%}
"""

QWEN25 = (
    _TOOLS
    + _CALLS
    + """
{%- set first = 1 if messages[0].role == 'system' else 0 -%}
{{- '<|im_start|>system\\n' + (messages[0].content if first else 'You are helpful.') -}}
{%- if tools -%}{{ '\\n\\n' + list_tools(tools) }}{%- endif -%}{{ '<|im_end|>\\n' }}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}"""
    + _RESULT
    + """
{%- elif message.role == 'assistant' and message.tool_calls -%}
{{ '<|im_start|>assistant\\n' + message.content + calls(message) + '<|im_end|>\\n' }}
{%- elif not (loop.first and first) -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
)

QWEN3 = (
    _TOOLS
    + _CALLS
    + """
{%- set first = 1 if messages[0].role == 'system' else 0 -%}
{%- if first or tools -%}
{{ '<|im_start|>system\\n' + (messages[0].content if first else '') }}
{%- if tools -%}{{ ('\\n\\n' if first else '') + list_tools(tools) }}{%- endif -%}{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- set ns = namespace(query=messages | length - 1, looking=true) -%}
{%- for message in messages[::-1] -%}
{%- if ns.looking and message.role == 'user' and not message.content.startswith('<tool_response>') -%}
{%- set ns.looking = false -%}{%- set ns.query = messages | length - 1 - loop.index0 -%}
{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}"""
    + _RESULT
    + """
{%- elif message.role == 'assistant' -%}
{%- set content = message.content -%}{%- set thought = message.reasoning_content or '' -%}
{%- if not thought and '</think>' in content -%}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{%- set shown = loop.index0 > ns.query and (loop.last or thought) -%}
{{ '<|im_start|>assistant\\n' }}
{%- if shown -%}{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif -%}
{{ content.lstrip('\\n') if shown else content }}
{%- if message.tool_calls -%}{{ calls(message) }}{%- endif -%}{{ '<|im_end|>\\n' }}
{%- elif not (loop.first and first) -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}
{%- endif -%}"""
)

HERMES = (
    _TOOLS
    + """
{{- bos_token -}}
{%- if tools -%}{{ '<|im_start|>system\\n' + list_tools(tools) + '<|im_end|>\\n' }}{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>tool\\n' }}{%- endif -%}
{{ '<tool_response>\\n' + message.content + ('\\n</tool_response>' if loop.last else '\\n</tool_response>\\n') }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>' }}{%- endif -%}
{%- elif message.role == 'assistant' and message.tool_calls -%}
{{ '<|im_start|>assistant' }}{%- if message.content -%}{{ '\\n' + message.content }}{%- endif -%}
{%- for call in message.tool_calls -%}
{{ '\\n<tool_call>\\n{"arguments": ' + call.function.arguments | tojson + ', "name": "' + call.function.name + '"}\\n</tool_call>' }}
{%- endfor -%}{{ '<|im_end|>\\n' }}
{%- else -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
)

LLAMA3 = """
{%- macro head(role) -%}{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}{%- endmacro -%}
{{- bos_token -}}
{%- set system = messages[0].content | trim if messages[0].role == 'system' else '' -%}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{{ head('system') }}{%- if tools -%}{{ 'Environment: ipython\\n' }}{%- endif -%}{{ 'Today Date: 26 Jul 2024\\n\\n' + system + '<|eot_id|>' }}
{%- if tools -%}
{{ head('user') + 'Answer with a JSON call of one of these functions if it helps.\\n\\n' }}
{%- for tool in tools -%}{{ tool | tojson(indent=4) + '\\n\\n' }}{%- endfor -%}
{{ rest[0].content | trim + '<|eot_id|>' }}
{%- set rest = rest[1:] -%}
{%- endif -%}
{%- for message in rest -%}
{%- if message.tool_calls -%}
{%- if message.tool_calls | length != 1 -%}{{ raise_exception('one tool call at a time') }}{%- endif -%}
{%- set call = message.tool_calls[0].function -%}
{{ head('assistant') + '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}<|eot_id|>' }}
{%- elif message.role == 'tool' -%}
{{ head('ipython') }}{%- if message.content is mapping or message.content is iterable -%}{{ message.content | tojson }}{%- else -%}{{ message.content }}{%- endif -%}{{ '<|eot_id|>' }}
{%- else -%}
{{ head(message.role) + message.content | trim + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ head('assistant') }}{%- endif -%}"""

MISTRAL = """
{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}
{%- set rest = messages[1:] if system else messages -%}
{%- set ns = namespace(users=[], last=-1, expected='user') -%}
{%- for message in rest -%}{%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{{- bos_token -}}
{%- for message in rest -%}
{%- if message.role == 'user' -%}
{%- if ns.expected != 'user' -%}{{ raise_exception('roles must alternate') }}{%- endif -%}{%- set ns.expected = 'assistant' -%}
{%- if tools and loop.index0 == ns.last -%}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif -%}
{{ '[INST] ' + (system + '\\n\\n' if system and loop.last else '') + message.content + '[/INST]' }}
{%- elif message.role == 'assistant' and message.tool_calls -%}
{{ '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls -%}
{%- if call.id | length != 9 -%}{{ raise_exception('ids of calls have 9 characters') }}{%- endif -%}
{{ (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + ('' if loop.last else ', ') }}
{%- endfor -%}{{ ']' + eos_token }}
{%- elif message.role == 'assistant' -%}
{%- if ns.expected != 'assistant' -%}{{ raise_exception('roles must alternate') }}{%- endif -%}{%- set ns.expected = 'user' -%}
{{ ' ' + message.content + eos_token }}
{%- elif message.role == 'tool' -%}
{%- if message.tool_call_id | length != 9 -%}{{ raise_exception('ids of calls have 9 characters') }}{%- endif -%}
{{ '[TOOL_RESULTS] {"content": ' + message.content + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- else -%}{{ raise_exception('unknown role') }}
{%- endif -%}
{%- endfor -%}"""

MISTRAL_ARGS = """
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}{%- endif -%}
{%- if loop.first and tools -%}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif -%}
{%- if message.role == 'user' -%}{{ '[INST]' + message.content + '[/INST]' }}
{%- elif message.role == 'assistant' -%}
{{ message.content }}
{%- for call in message.tool_calls or [] -%}{{ '[TOOL_CALLS]' + call.function.name + '[ARGS]' + call.function.arguments | tojson }}{%- endfor -%}
{{ eos_token }}
{%- elif message.role == 'tool' -%}{{ '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' }}
{%- endif -%}
{%- endfor -%}"""

SMOLLM3 = (
    _TOOLS
    + _CALLS
    + """
{{- '<|im_start|>system\\n## Metadata\\n\\nReasoning Mode: /think\\n\\n## Custom Instructions\\n\\n' -}}
{{- (messages[0].content.rstrip() if messages[0].role == 'system' else 'Think first.') + '\\n\\n' -}}
{%- if tools -%}{{ list_tools(tools) + '\\n\\n' }}{%- endif -%}{{ '<|im_end|>\\n' }}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{ '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}
{%- if message.reasoning_content -%}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n' }}{%- endif -%}
{{ message.content.lstrip('\\n') + calls(message) + '<|im_end|>\\n' }}
{%- elif message.role == 'tool' -%}{{ '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
)

GEMMA = """
{{- bos_token -}}
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""

PLAIN_CHATML = """
{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""

_HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")
_MISTRAL = ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
_ARGS = (*_MISTRAL, "[ARGS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

TEMPLATES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], bool]] = {
    "qwen2.5": (QWEN25, CHATML, _TAGS[:2], False),
    "qwen3": (QWEN3, CHATML, _TAGS, True),
    "hermes": (HERMES, CHATML, (), False),
    "llama3": (LLAMA3, _HEADERS, (), False),
    "mistral": (MISTRAL, _MISTRAL, (), False),
    "mistral-args": (MISTRAL_ARGS, _ARGS, (), False),
    "smollm3": (SMOLLM3, CHATML, _TAGS[4:], True),
    "gemma": (GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), (), False),
    "chatml": (PLAIN_CHATML, CHATML, (), False),
}
"""Name -> template, special tokens, other added tokens, whether the model thinks."""
ORIGINALS = (
    "cohere", "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "glm4moe", "lfm2", "lfm2_2_5", "llama3", "llama3_1",
    "llama3_2", "nemotron_3_nano", "phi3", "phi3_5", "qwen2_5", "qwen2_5_vl", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6",
    "qwen3_8", "qwen3_instruct_2507", "qwen3_vl",
)  # fmt: skip
"""Templates as their families published them, which TRL carries along."""
_ENDS = {"<|begin_of_text|>": "<|eot_id|>", "<s>": "</s>", "<bos>": "<eos>"}


def original(name: str) -> tuple[str, tuple[str, ...], tuple[str, ...], bool]:
    """Return a published template and its tokens. Raises ImportError where TRL is not installed."""
    import trl

    text = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    marks = dict.fromkeys(re.findall(r"<[|｜][^<>|｜\s]+[|｜]>|<(?:start|end)_of_turn>|<bos>|<eos>", text))
    family = next((tokens for tokens in (_HEADERS, CHATML, ("<bos>", "<eos>")) if tokens[0] in marks), CHATML)
    return text, (*family, *(m for m in marks if m not in family)), _TAGS if "think" in text else (), "reasoning_content" in text


def tokenizer_of(name: str):
    """Return a small byte-level tokenizer of that family, trained on the words below, with the family's tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    template, special, added, _ = TEMPLATES.get(name) or original(name)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    words = ["The order of Ada Lund was refunded; call get_order with the id first.\n\n", '{"name": "search", "arguments": {"query": "x y"}}'] * 3
    core.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    first = special[0] if special[0] in _ENDS else None
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=first or special[2], eos_token=_ENDS.get(first, special[1]))
    made.chat_template = template
    return made
