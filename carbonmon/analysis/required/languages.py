"""The sentences of the energy paragraph in five languages; pure.

What stands in braces is filled in by `paragraph.py`; names of devices, places and sources stay as they are.
"""

from __future__ import annotations

from carbonmon.core.records import NamedTuple


class Language(NamedTuple):
    """Whole sentences, for each case one: a translation is no sum of words."""

    decimal: str
    ran: str
    ran_for_unknown: str
    no_device: str
    energy: str
    energy_without_range: str
    energy_unknown: str
    measured: str
    estimated: str
    partly: str
    stated: str
    partly_stated: str
    how_unknown: str
    emissions: str
    emissions_without_range: str
    emissions_unknown: str
    pue: str
    no_pue: str
    work: str
    units: dict[str, str]
    scope: str
    scope_of_estimate: str
    gap: str


ENGLISH = Language(
    ".",
    "The run took {duration} on {hardware}.",
    "The run was on {hardware}.",
    "unknown hardware",
    "It drew {energy} of electricity ({low} to {high}).",
    "It drew {energy} of electricity (range not stated).",
    "Its energy is not known: no sensor gave a reading.",
    "All of that was measured by the hardware.",
    "All of that was estimated from specifications and utilisation; nothing was measured.",
    "Of that, {share} % was measured by the hardware and {rest} % estimated from specifications and "
    "utilisation.",
    "That is a figure that was given; carbonmon measured nothing.",
    "Of that, {share} % is a figure that was given and {rest} % was estimated from specifications; nothing "
    "was measured.",
    "How much of that was measured is not known.",
    "At a carbon intensity of {rate} g CO2e/kWh ({source}) this is {mass} CO2e ({low} to {high}), "
    "location-based.",
    "At a carbon intensity of {rate} g CO2e/kWh ({source}) this is {mass} CO2e (range not stated), "
    "location-based.",
    "Its emissions are not known.",
    "The data centre's overhead is in the emissions with a PUE of {pue}.",
    "No overhead of a data centre is in it (PUE 1).",
    "That is {energy} per {unit}.",
    {"step": "step", "sample": "sample", "token": "token"},
    "Counted are the devices that carbonmon {version} tracked; making the hardware, network and storage "
    "are not.",
    "Counted is the hardware that was named, with carbonmon {version}; making it, network and storage "
    "are not.",
    " ",
)
FRENCH = Language(
    ",",
    "L'exécution a duré {duration} sur {hardware}.",
    "L'exécution a eu lieu sur {hardware}.",
    "un matériel inconnu",
    "Elle a consommé {energy} d'électricité (de {low} à {high}).",
    "Elle a consommé {energy} d'électricité (intervalle non indiqué).",
    "Son énergie n'est pas connue : aucun capteur n'a donné de mesure.",
    "Le tout a été mesuré par le matériel.",
    "Le tout a été estimé d'après les spécifications et le taux d'utilisation ; rien n'a été mesuré.",
    "De cette énergie, {share} % ont été mesurés par le matériel et {rest} % estimés d'après les "
    "spécifications et le taux d'utilisation.",
    "C'est un chiffre fourni ; carbonmon n'a rien mesuré.",
    "De cette énergie, {share} % sont un chiffre fourni et {rest} % ont été estimés d'après les "
    "spécifications ; rien n'a été mesuré.",
    "La part mesurée n'est pas connue.",
    "Avec une intensité carbone de {rate} g CO2e/kWh ({source}), cela représente {mass} CO2e (de {low} à "
    "{high}), "
    "selon la méthode fondée sur la localisation.",
    "Avec une intensité carbone de {rate} g CO2e/kWh ({source}), cela représente {mass} CO2e (intervalle non "
    "indiqué), selon la méthode fondée sur la localisation.",
    "Ses émissions ne sont pas connues.",
    "Les émissions comprennent les charges du centre de données, avec un PUE de {pue}.",
    "Aucune charge d'un centre de données n'est comprise (PUE de 1).",
    "Cela fait {energy} par {unit}.",
    {"step": "pas", "sample": "échantillon", "token": "token"},
    "Sont comptés les appareils suivis par carbonmon {version} ; la fabrication du matériel, le réseau et "
    "le stockage ne le sont pas.",
    "Est compté le matériel indiqué, avec carbonmon {version} ; sa fabrication, le réseau et le stockage "
    "ne le sont pas.",
    " ",
)
GERMAN = Language(
    ",",
    "Der Lauf dauerte {duration} auf {hardware}.",
    "Der Lauf fand auf {hardware} statt.",
    "unbekannter Hardware",
    "Er verbrauchte {energy} Strom ({low} bis {high}).",
    "Er verbrauchte {energy} Strom (Bereich nicht angegeben).",
    "Sein Energieverbrauch ist nicht bekannt: Kein Sensor lieferte einen Messwert.",
    "Alles davon wurde von der Hardware gemessen.",
    "Alles davon wurde aus Datenblättern und Auslastung geschätzt; nichts wurde gemessen.",
    "Davon wurden {share} % von der Hardware gemessen und {rest} % aus Datenblättern und Auslastung "
    "geschätzt.",
    "Das ist eine angegebene Zahl; carbonmon hat nichts gemessen.",
    "Davon sind {share} % eine angegebene Zahl, {rest} % wurden aus Datenblättern geschätzt; nichts wurde "
    "gemessen.",
    "Wie viel davon gemessen wurde, ist nicht bekannt.",
    "Bei einer CO2-Intensität von {rate} g CO2e/kWh ({source}) sind das {mass} CO2e ({low} bis {high}), "
    "standortbasiert.",
    "Bei einer CO2-Intensität von {rate} g CO2e/kWh ({source}) sind das {mass} CO2e (Bereich nicht "
    "angegeben), "
    "standortbasiert.",
    "Seine Emissionen sind nicht bekannt.",
    "Der Mehrverbrauch des Rechenzentrums ist in den Emissionen mit einer PUE von {pue} enthalten.",
    "Ein Mehrverbrauch eines Rechenzentrums ist nicht enthalten (PUE 1).",
    "Das sind {energy} je {unit}.",
    {"step": "Schritt", "sample": "Beispiel", "token": "Token"},
    "Gezählt sind die von carbonmon {version} erfassten Geräte; Herstellung der Hardware, Netz und "
    "Speicher sind es nicht.",
    "Gezählt ist die genannte Hardware, mit carbonmon {version}; ihre Herstellung, Netz und Speicher "
    "sind es nicht.",
    " ",
)
SPANISH = Language(
    ",",
    "La ejecución duró {duration} en {hardware}.",
    "La ejecución tuvo lugar en {hardware}.",
    "hardware desconocido",
    "Consumió {energy} de electricidad (de {low} a {high}).",
    "Consumió {energy} de electricidad (intervalo no indicado).",
    "No se conoce su energía: ningún sensor dio una lectura.",
    "Todo ello fue medido por el hardware.",
    "Todo ello fue estimado a partir de las especificaciones y el uso; no se midió nada.",
    "De ello, el {share} % fue medido por el hardware y el {rest} % estimado a partir de las "
    "especificaciones y el uso.",
    "Es una cifra proporcionada; carbonmon no midió nada.",
    "De ello, el {share} % es una cifra proporcionada y el {rest} % fue estimado a partir de las "
    "especificaciones; no se midió nada.",
    "No se sabe qué parte de ello fue medida.",
    "Con una intensidad de carbono de {rate} g CO2e/kWh ({source}), son {mass} CO2e (de {low} a {high}), "
    "según el "
    "método basado en la ubicación.",
    "Con una intensidad de carbono de {rate} g CO2e/kWh ({source}), son {mass} CO2e (intervalo no "
    "indicado), según "
    "el método basado en la ubicación.",
    "No se conocen sus emisiones.",
    "Las emisiones incluyen la carga del centro de datos, con un PUE de {pue}.",
    "No se incluye ninguna carga de un centro de datos (PUE de 1).",
    "Son {energy} por {unit}.",
    {"step": "paso", "sample": "muestra", "token": "token"},
    "Se cuentan los dispositivos registrados por carbonmon {version}; no se cuentan la fabricación del "
    "hardware, la red ni el almacenamiento.",
    "Se cuenta el hardware indicado, con carbonmon {version}; no se cuentan su fabricación, la red ni el "
    "almacenamiento.",
    " ",
)
CHINESE = Language(
    ".",
    "本次运行在 {hardware} 上历时 {duration}。",
    "本次运行使用的硬件为 {hardware}。",
    "未知硬件",
    "共耗电 {energy}（{low} 至 {high}）。",
    "共耗电 {energy}（未给出范围）。",
    "能耗未知：没有传感器给出读数。",
    "全部由硬件测得。",
    "全部根据规格和利用率估算，未经测量。",
    "其中 {share} % 由硬件测得，{rest} % 根据规格和利用率估算。",
    "该数值由用户给出，carbonmon 未作测量。",
    "其中 {share} % 由用户给出，{rest} % 根据规格估算，未经测量。",
    "其中有多少由测量得到，尚不清楚。",
    "按碳强度 {rate} g CO2e/kWh（{source}）计，排放为 {mass} CO2e（{low} 至 {high}），采用基于位置的方法。",
    "按碳强度 {rate} g CO2e/kWh（{source}）计，排放为 {mass} CO2e（未给出范围），采用基于位置的方法。",
    "排放未知。",
    "排放已按 PUE {pue} 计入数据中心的额外能耗。",
    "未计入数据中心的额外能耗（PUE 为 1）。",
    "平均每{unit} {energy}。",
    {"step": "步", "sample": "个样本", "token": "个 token"},
    "统计范围为 carbonmon {version} 跟踪的设备；不含硬件制造、网络和存储。",
    "统计范围为所列硬件（carbonmon {version}）；不含硬件制造、网络和存储。",
    "",
)
LANGUAGES = {"en": ENGLISH, "zh": CHINESE, "fr": FRENCH, "de": GERMAN, "es": SPANISH}
