"""Retrieved passages: where they come from, and whether they try to give orders."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from apps.guardrails.checks.candidates import counted
from apps.guardrails.checks.interface import (
    NOTHING,
    PASSAGE,
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    merged,
    wrong,
)
from apps.guardrails.checks.keywords import listed
from apps.guardrails.checks.matching import Patterns
from apps.guardrails.checks.urls import canonical, within

_EARLIER = "(?:previous|prior|earlier|above|preceding|foregoing|initial|original)"
_ORDERS = "(?:instructions?|prompts?|directions?|directives?|guidelines?|rules|commands?|context)"
_DROP = "(?:ignore|disregard|forget|neglect|discard)"

INJECTIONS = (
    # earlier orders are void
    rf"\b{_DROP}\s+(?:(?:all|any|every|the|of|your|my|these|those|everything)\s+){{0,3}}{_EARLIER}"
    rf"\s+(?:\w+\s+)?{_ORDERS}",
    rf"\b(?:{_DROP}|override|bypass)\s+(?:all\s+)?(?:of\s+)?your\s+(?:(?:system|safety|core|own|"
    rf"programmed|training|current|default)\s+)?{_ORDERS}",
    r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all)\s+(?:(?:that\s+)?(?:was|were|is|"
    r"came|you)\s+)?(?:(?:been\s+)?(?:told|said|written)\s+)?(?:above|before|previously|so far)\b",
    r"\bdo\s+not\s+(?:follow|obey)\s+(?:the\s+|your\s+|any\s+)?(?:previous|prior|system|original)\b",
    r"\b(?:new|updated|real|actual)\s+(?:system\s+)?instructions?\s*:",
    r"\bend\s+of\s+(?:the\s+)?(?:system\s+)?(?:prompt|instructions|context|document)\b[^\pL]{0,20}"
    r"(?:new|now|begin|start|user|system)\b",
    r"\byour\s+(?:new|real|actual)\s+(?:task|objective|instructions?)\s+(?:is|are)\b",
    # another role
    r"\byou\s+are\s+now\s+(?:an?\s+|the\s+|my\s+|in\s+)?(?:\w+\s+)?(?:unrestricted|unfiltered|"
    r"uncensored|jailbroken|dan|developer mode|debug mode|god mode|assistant|chatbot|ai|llm|root|"
    r"admin(?:istrator)? mode)\b",
    r"\bfrom\s+now\s+on,?\s+(?:you\s+(?:are|will|must|shall|should|have\s+to)\s+)?(?:only\s+|"
    r"always\s+)?(?:act|answer|respond|reply|pretend|behave|ignore|obey)\b",
    r"\b(?:pretend|act|behave)\s+(?:to\s+be|as\s+if\s+you\s+(?:are|were)|like\s+you\s+are)\s+"
    r"(?:an?\s+)?(?:\w+\s+)?(?:unrestricted|unfiltered|uncensored|jailbroken|evil|different)\s+"
    r"(?:ai|assistant|model|chatbot)\b",
    r"\b(?:enable|enter|activate|switch\s+to)\s+(?:the\s+)?(?:jailbreak|dan|unrestricted)\s+"
    r"mode\b",
    r"\bdo\s+anything\s+now\b",
    r"\b(?:answer|respond|reply|operate|act)\s+without\s+(?:any\s+)?(?:ethical|moral|safety|"
    r"content)\s+(?:restrictions?|filters?|guidelines|guardrails)\b",
    # it is the assistant that is spoken to
    r"\b(?:note|message|instructions?|attention|dear)\s*(?:to|for|,|:)?\s*(?:the\s+|any\s+"
    r"|all\s+)?(?:ai|llm|language\s+model|chatbot|gpt)s?\s*(?:assistants?|agents?|models?|systems?|"
    r"readers?)?\s*[:,]",
    r"\bif\s+you\s+are\s+an?\s+(?:ai|llm|language\s+model|large\s+language\s+model|chatbot|"
    r"automated\s+agent)\b",
    r"\bas\s+an?\s+(?:ai|llm|language\s+model)(?:\s+\w+){0,2},?\s+you\s+(?:must|should|will|have\s+to)\b",
    r"\b(?:ai|llm)\s+(?:assistants?|agents?|models?)\s+(?:must|should|shall)\s+(?:now\s+)?(?:ignore|"
    r"(?:reply|respond|answer)\s+with|output|execute)\b",
    # secrecy
    r"\b(?:do\s+not|don'?t|never)\s+(?:tell|inform|alert|notify|reveal\s+(?:this|it)\s+to|mention\s+"
    r"(?:this|it)\s+to|show\s+(?:this|it)\s+to)\s+(?:the\s+|your\s+)?users?\b",
    r"\bwithout\s+telling\s+(?:the\s+)?users?\b",
    r"\b(?:do\s+not|don'?t|never)\s+(?:mention|reveal|disclose|acknowledge)\s+(?:this|these|that\s+"
    r"you|the)\s+(?:instructions?|prompt|message|injection|(?:were|are|have)\b)",
    # the hidden prompt, and what could be carried off
    r"\b(?:reveal|print|repeat|output|show|leak|display|disclose|tell\s+me)\s+(?:me\s+)?(?:your|the|"
    r"all)\s+(?:\w+\s+)?(?:system|hidden|secret|initial|developer)\s+(?:prompt|instructions?)\b",
    r"\b(?:repeat|print|output)\s+(?:everything|all\s+(?:the\s+)?(?:text|words))\s+above\b",
    r"\b(?:send|forward|post|upload|exfiltrate|leak|transmit|e-?mail)\s+(?:all\s+|the\s+|your\s+|"
    r"this\s+|entire\s+){1,2}(?:\w+\s+)?(?:conversation|chat\s+history|system\s+prompt)\s+to\b",
    r"\b(?:append|encode|embed|include|put|insert)\s+(?:\w+\s+){0,3}(?:conversation|chat|history|"
    r"prompt|summary|secrets?)\s+(?:\w+\s+){0,2}(?:in|into|to|as)\s+(?:the\s+|a\s+|"
    r"an\s+)?(?:url|query\s+(?:string|parameter)|image\s+(?:url|link|tag))\b",
    r"!\[[^\]\n]*\]\(\s*<?https?://[^)\s]*[?&](?:data|d|q|query|secret|token|key|prompt|msg|message|"
    r"conversation|context|history|content|info|leak|payload|exfil|chat|summary|user|input|c)="
    r"[^)\s]*",
    r"!\[[^\]\n]*\]\(\s*<?https?://[^)]*[?/&=](?:\{|\[|<|%7b|\$\{)[^)]*",
    r"<img\s[^>]*src\s*=\s*[\"']?https?://[^>\s]*\?[^>\s]*(?:\{|%7b|\$\{|data=|secret=|prompt=|"
    r"token=)",
    # the marks between turns, which only a program should write
    r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|begin_of_text|eot_id|"
    r"start_header_id|end_header_id|endofprompt|channel|end_of_turn)\|>",
    r"\[/?INST\]",
    r"<</?SYS>>",
    r"<(?:start_of_turn|end_of_turn)>",
    r"</?(?:system|assistant)(?:[_-]?(?:prompt|message|instructions?))?>",
    r"(?m)^\s*###\s*(?:system|assistant)(?:\s+(?:prompt|message))?\s*:?\s*$",
    r"(?m)^\s*###\s*(?:instruction|human)\s*:",
    r"(?m)^\s*(?:\*\*)?\[?system(?:\s+(?:prompt|message|override|note))?\]?(?:\*\*)?\s*:\s*(?:you|"
    r"ignore|the\s+assistant|from|new|now|forget|override|do\b)",
    r"\[(?:system|assistant)\s*(?:prompt|message|override|note)\]",
    r"\[(?:system|assistant)\]\s*\(#\w+\)",
    r"(?m)^\s*(?:human|assistant)\s*:.*\n+\s*(?:human|assistant)\s*:",
    r"\{\s*\"role\"\s*:\s*\"(?:system|developer)\"",
    # orders that people do not see
    r"<!--[^>]*(?:\bignore\s+(?:all|any|every\w*|the|previous|your)\b|\binstructions?\s+(?:to|for)\b|\b(?:ai|llm|assistant|gpt)\b\s*[:,]|"
    r"\byou\s+must\b|system\s+prompt|\bprompt\s*:)",
    r"<(?:span|div|p|font)\s[^>]*(?:display\s*:\s*none|font-size\s*:\s*0|color\s*:\s*(?:white|#fff)|"
    r"visibility\s*:\s*hidden|opacity\s*:\s*0[^.\d])[^>]*>[^<]*(?:\bignore\b|\byou\s+must\b|"
    r"\binstructions?\b|\bassistant\b)",
    r"(?:^|[^\x{1F3F4}\x{E0020}-\x{E007F}])[\x{E0020}-\x{E007F}]{3,}",
    # German
    r"\b(?:ignoriere?|vergiss|missachte|verwirf)\s+(?:(?:bitte|alle|jegliche|die|deine|s(?:ä|ae)mtliche)"
    r"\s+)*(?:vorherigen|bisherigen|vorigen|obigen|fr(?:ü|ue)heren)\s+(?:anweisungen|befehle|"
    r"instruktionen|regeln|vorgaben)",
    r"\b(?:du\s+bist\s+(?:jetzt|nun|ab\s+sofort)|ab\s+(?:jetzt|sofort)\s+bist\s+du)\s+(?:ein\s+|eine\s+|"
    r"der\s+)?(?:\w+\s+)?(?:ki|assistent|chatbot|dan)\b",
    r"\b(?:sag|sage|verrate|erz(?:ä|ae)hle?)\s+(?:es\s+|das\s+|dies\s+)?(?:dem|der)\s+(?:be)?nutzer(?:in)?"
    r"\s+(?:nichts|nicht)",
    # French
    r"\b(?:ignore[zr]?|oublie[zr]?)\s+(?:(?:toutes|tous|les|vos|tes)\s+)*(?:instructions|consignes|"
    r"directives|r(?:è|e)gles)\s+(?:pr(?:é|e)c(?:é|e)dentes|ant(?:é|e)rieures|ci-dessus)",
    r"\bne\s+(?:le\s+)?(?:dis|dites|disez)\s+(?:rien|pas)\s+(?:à|a)\s+l['’]utilisat(?:eur|rice)",
    r"\b(?:tu\s+es|vous\s+(?:ê|e)tes)\s+(?:maintenant|d(?:é|e)sormais)\s+(?:une?\s+)?(?:ia|assistante?|"
    r"chatbot|dan)\b",
    # Spanish and Portuguese
    r"\b(?:ignora|ignore|olvida|olvide|descarta|esque(?:ç|c)a)\s+(?:(?:todas|todos|las|los|as|tus|sus|"
    r"suas)\s+)*(?:instrucciones|instru(?:ç|c)(?:õ|o)es|indicaciones|(?:ó|o)rdenes|reglas|regras)\s+"
    r"(?:anteriores|previas|pr(?:é|e)vias|acima|de\s+arriba)",
    r"\b(?:no\s+le\s+digas|n(?:ã|a)o\s+diga)\s+(?:(?:nada\s+|isso\s+)?(?:al?|ao))\s+usu(?:á|a)rio",
    r"\b(?:ahora|agora)\s+(?:eres|voc(?:ê|e)\s+(?:é|e))\s+(?:una?\s+|uma?\s+)?(?:ia|asistente|assistente|"
    r"chatbot|dan)\b",
    # Italian, Dutch, Polish, Turkish
    r"\b(?:ignora|dimentica)\s+(?:(?:tutte|le|tue)\s+)*istruzioni\s+(?:precedenti|di\s+cui\s+sopra)",
    r"\b(?:negeer|vergeet)\s+(?:(?:alle|de|je|uw)\s+)*(?:vorige|eerdere|voorgaande|bovenstaande)\s+"
    r"(?:instructies|opdrachten|aanwijzingen|regels)",
    r"\b(?:zignoruj|ignoruj|zapomnij)\s+(?:(?:wszystkie|o\s+wszystkich)\s+)?(?:poprzedni(?:e|ch)|"
    r"wcze(?:ś|s)niejsz(?:e|ych))\s+(?:instrukcj\pL*|polece(?:ń|n)\pL*)",
    r"(?:önceki|yukarıdaki|yukaridaki)\s+(?:tüm\s+|bütün\s+)?(?:talimatları|komutları)\s+(?:yok\s+say|"
    r"unut|görmezden\s+gel)",
    # Russian and Ukrainian
    r"(?:игнорируй|проигнорируй|забудь|ігноруй|забудь)(?:те)?\s+(?:(?:все|всі|про|обо?|всех)\s+)*"
    r"(?:предыдущ\pL+|прошл\pL+|прежн\pL+|попередн\pL+)\s+(?:инструкци\pL+|указани\pL+|команд\pL*|"
    r"інструкці\pL+|вказівк\pL+)",
    r"не\s+(?:говори|сообщай|рассказывай)(?:те)?\s+(?:об\s+этом\s+)?пользовател\pL+",
    # Arabic, Hindi, Chinese, Japanese, Korean
    r"(?:تجاهل|انس)\s+(?:جميع\s+|كل\s+)?(?:التعليمات|الأوامر)\s+(?:السابقة|أعلاه)",
    r"(?:पिछले|पहले\s+के|उपरोक्त)\s+(?:सभी\s+)?(?:निर्देशों?|आदेशों?)\s+(?:को\s+)?(?:अनदेखा|नज़रअंदाज़|भूल)",
    r"(?:忽略|无视|忘记|忽視|無視|不要理会|不要理會)\s*(?:掉)?\s*(?:你|您)?\s*(?:之前|以前|以上|上面|先前|前面|所有)\s*(?:的)?\s*"
    r"(?:所有|全部|一切)?\s*(?:的)?\s*(?:指令|指示|提示|规则|規則|命令|说明)",
    r"(?:不要|别|請勿|请勿)(?:告诉|告訴|通知)(?:用户|用戶|使用者)",
    r"(?:以前|これまで|上記|今まで|前)の(?:すべての|全ての)?(?:指示|命令|プロンプト|ルール)(?:を|は)?(?:すべて|全て)?(?:無視|忘れ)",
    r"(?:이전|위|앞)의?\s*(?:모든\s*)?(?:지시|명령|지침|프롬프트)(?:사항)?(?:을|를|은|는)?\s*(?:모두\s*)?(?:무시|잊)",
)
"""What only a text writes that wants to steer the assistant that reads it."""

_Allows = Callable[[str], bool]


def build(settings: Mapping[str, Any]) -> Evaluate:
    allows = [_source(line.strip()) for line in settings["sources"] if line.strip()]
    own = listed("phrases", settings["phrases"], whole_words=True, ignore_case=True)
    looks: list[tuple[tuple[str, str], Patterns]] = []
    if settings["injections"]:
        looks.append(
            (
                ("place that gives orders", "places that give orders"),
                Patterns(INJECTIONS, ignore_case=True),
            )
        )
    if own is not None:
        looks.append((("listed phrase", "listed phrases"), own))
    if not (allows or looks):
        raise wrong("sources", "Say what to look for: sources, orders or phrases.")

    def evaluate(subject: Subject) -> Found:
        reasons: list[str] = []
        spans: list[Span] = []
        if allows and _is_passage(subject) and not any(one(subject.source) for one in allows):
            reasons.append("a source that is not allowed" if subject.source else "no source")
        source = Subject(subject.source)
        for what, patterns in looks:
            hits = merged([span for _, span in patterns.spans(subject)])
            if hits:
                reasons.append(counted(len(hits), *what))
                spans += hits
            # a model reads it with the passage
            if patterns.spans(source):
                reasons.append(f"in its source, a {what[0]}")
        return Found(1.0, merged(spans), ", ".join(reasons)) if reasons else NOTHING

    return evaluate


def _is_passage(subject: Subject) -> bool:
    """Only what was retrieved, or says where it is from, has to come from somewhere."""
    return subject.role == PASSAGE or bool(subject.source)


def _source(line: str) -> _Allows:
    """What an allowed source looks like: an address and what is below it, a host, or a prefix."""
    if "://" in line:
        return _address(line)
    if "." in line and not any(one in line for one in "/:\\@ "):
        domains = frozenset([canonical(line.removeprefix("*."))])
        return lambda source: (parts := _split(source)) is not None and within(parts[1], domains)
    return _prefix(line)


def _address(line: str) -> _Allows:
    allowed = _split(line)
    if allowed is None:
        raise wrong("sources", "An address cannot be read; write it as https://example.com/docs/.")

    def allows(source: str) -> bool:
        parts = _split(source)
        return (
            parts is not None
            and parts[:3] == allowed[:3]
            and parts[3][: len(allowed[3])] == allowed[3]
        )

    return allows


def _prefix(line: str) -> _Allows:
    """Names that are no addresses, whole parts of them: docs/a allows docs/a/b, but not docs/ab."""

    def allows(source: str) -> bool:
        after = source[len(line) : len(line) + 1]
        whole = not after or not line[-1].isalnum() or after in "/\\:#?"
        climbs = ".." in unquote(source).replace("\\", "/").split("/")
        return source.startswith(line) and whole and not climbs

    return allows


def _split(source: str) -> tuple[str, str, int | None, tuple[str, ...]] | None:
    """Scheme, host, port and path of an address as a browser would take it; None if it is none."""
    source = source.strip().replace("\\", "/")
    try:
        parts = urlsplit(source if "://" in source else f"//{source}")
        port = parts.port
    except ValueError:
        return None
    host = canonical(parts.netloc.rpartition("@")[2].removesuffix(f":{port}"))
    path = posixpath.normpath("/" + unquote(parts.path)).split("/")
    return (
        (parts.scheme.lower(), host, port, tuple(part for part in path if part)) if host else None
    )


KIND = Kind(
    name="retrieval",
    title="Retrieved passages",
    about="Finds passages from elsewhere than the allowed sources, and orders hidden in passages.",
    fields=(
        Field(
            "sources",
            "lines",
            "Allowed sources",
            "One a line: a host (example.com), an address and all below it "
            "(https://example.com/docs/), or the beginning of another name. Empty: any.",
            [],
        ),
        Field(
            "injections",
            "yes_no",
            "Orders to the assistant",
            "Known phrases and marks of prompt injection, in many languages.",
            True,
        ),
        Field("phrases", "lines", "Own phrases", "One a line.", []),
    ),
    build=build,
)
